"""Runs a list of jobs: what is done is skipped, what was interrupted goes on."""

import json
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from .jobs import Job, resolve
from .results import Results
from .runs import row_key, run_in_process

POLL_SECONDS = 2.0


class RunFailed(RuntimeError):
    """A run ended with an error; the message names its log."""


def folder_of(job: Job, output: Path) -> Path:
    """Where a job's training is kept; jobs that train the same thing have the same folder."""
    _, _, digest = resolve(job)
    return output / job.preset / digest / f"seed{job.seed}"


def iterations_done(folder: Path) -> int:
    """By the last whole line of the training's metrics.json."""
    path = folder / "metrics.json"
    for line in reversed(path.read_text().splitlines() if path.exists() else []):
        try:
            return int(json.loads(line)["iteration"]) + 1
        except (json.JSONDecodeError, KeyError):
            continue  # half written
    return 0


def run_one(job: Job, folder: Path, results: Results, num_gpus: int, progress: tqdm) -> None:
    """
    Raises:
        RunFailed: the process ended with an error.
    """
    context = multiprocessing.get_context("spawn")
    arguments = job, folder, results.path, num_gpus
    process = context.Process(target=run_in_process, args=arguments)
    process.start()
    before = 0
    while process.is_alive():
        process.join(POLL_SECONDS)
        now = iterations_done(folder)
        progress.update(max(0, now - before))
        before = max(before, now)
    if process.exitcode:
        log = folder / "console.log"
        last = log.read_text().strip().splitlines()[-1:]
        raise RunFailed(f"{job.name}, seed {job.seed}: {''.join(last)} (the log is {log})")


def run_jobs(
    jobs: Sequence[Job], output: Path, results: Results, *, num_gpus: int = 1
) -> list[RunFailed]:
    """Run all jobs in their order. Several processes may share the work: each takes what no other
    is at.

    Args:
        output: the folder of trainings; see :func:`folder_of`.

    Returns:
        the errors of runs that failed; the others were run all the same.
    """
    keys = {job: row_key(job) for job in jobs}
    pending = [job for job in jobs if not results.has(keys[job])]
    errors = []
    total = sum(keys[job]["iterations"] for job in pending)
    with tqdm(total=total, unit="iteration", smoothing=0.05) as progress:
        while pending:
            busy = []
            for job in pending:
                if results.has(keys[job]):
                    continue
                folder = folder_of(job, output)
                folder.mkdir(parents=True, exist_ok=True)
                progress.set_description(f"{job.name} seed {job.seed}")
                try:
                    with FileLock(folder / "lock", timeout=0):
                        run_one(job, folder, results, num_gpus, progress)
                except Timeout:
                    busy.append(job)
                except RunFailed as error:
                    errors.append(error)
                    progress.write(f"failed: {error}")
            pending = busy
            if busy:
                time.sleep(POLL_SECONDS)
    return errors
