"""Run a list of jobs: what is done is skipped, what was interrupted goes on."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from tqdm import tqdm

from scopenet.engine.reliability.interruption import TRY_AGAIN, Interrupted
from scopenet.training_metrics import read_metrics

from .job import Job, resolve
from .results import Results
from .runs import CONSOLE, row_key, run_in_process

POLL_SECONDS = 2.0


class Run(NamedTuple):
    """A job with the key of its row and the folder of its training, which is the same for jobs that
    differ at inference only."""

    job: Job
    key: dict
    folder: Path


class RunFailed(RuntimeError):
    """A run ended with an error; the message names its log."""


def plan(job: Job, output: Path) -> Run:
    """Find out where a job belongs; see :func:`~experiments.job.resolve` for what it raises."""
    _, cfg, digest = resolve(job)
    return Run(job, row_key(job, cfg), output / job.dataset / digest / f"seed{job.seed}")


def shared_trainings(runs: Sequence[Run]) -> list[list[str]]:
    """List the names of configs that share a training, where they are several."""
    names: dict[Path, list[str]] = {}
    for run in runs:
        group = names.setdefault(run.folder.parent, [])
        if run.job.name not in group:
            group.append(run.job.name)
    return [group for group in names.values() if len(group) > 1]


def iterations_done(folder: Path) -> int:
    """Tell how far the training of a folder has come."""
    metrics = read_metrics(folder / "metrics.json")
    return 1 + max((iteration for values in metrics.values() for iteration in values), default=-1)


def execute(
    run: Run,
    results: Results,
    num_gpus: int,
    progress: tqdm,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Do a run in a process of its own, and call ``watch`` every :data:`POLL_SECONDS`; what that
    raises ends the run, which saves what it did.

    Raises:
        RunFailed: the process ended with an error.
        Interrupted: it was told to end, and has saved what it did.
    """
    context = multiprocessing.get_context("spawn")
    arguments = run.job, run.folder, results.path, num_gpus
    process = context.Process(target=run_in_process, args=arguments)
    process.start()
    seen = 0
    while process.is_alive():
        process.join(POLL_SECONDS)
        done = min(iterations_done(run.folder), run.key["iterations"])
        progress.update(max(0, done - seen))
        seen = max(seen, done)
        try:
            watch()
        except Exception:
            process.terminate()
            process.join()
            raise
    if process.exitcode == TRY_AGAIN:
        raise Interrupted  # saved, and no failure of the run: the next start goes on with it
    if process.exitcode:
        log = run.folder / CONSOLE
        last = log.read_text().strip().splitlines()[-1:] if log.exists() else []
        raise RunFailed(f"{run.job.name}, seed {run.job.seed}: {''.join(last)} (see {log})")
    progress.update(run.key["iterations"] - seen)  # those of another row's training


def try_to_execute(
    run: Run, results: Results, num_gpus: int, progress: tqdm, **options: Callable[[], None]
) -> bool:
    """Do a run that nobody else is at; return False where another process is at its training. The
    ``options`` are those of :func:`execute`.

    Raises:
        RunFailed: the process ended with an error.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.folder / "lock", timeout=0):
            if not results.has(run.key):  # nobody finished it in the meantime
                execute(run, results, num_gpus, progress, **options)
    except Timeout:
        return False
    return True


def run_jobs(
    jobs: Sequence[Job], output: Path, results: Results, *, num_gpus: int = 1
) -> list[RunFailed]:
    """Run all jobs in their order; several processes may share the work.

    Args:
        output: the folder of all trainings.

    Returns:
        the errors of runs that failed; the others were run all the same.

    Raises:
        ConfigError: a job cannot be run; none was started.
    """
    runs = [plan(job, output) for job in jobs]
    pending = [run for run in runs if not results.has(run.key)]
    errors = []
    for group in shared_trainings(runs):
        print(f"One training for {', '.join(group)}.")
    print(f"{len(runs) - len(pending)} of {len(runs)} runs are done.")
    total = sum(run.key["iterations"] for run in pending)
    with tqdm(total=total, unit="it", smoothing=0.05, disable=not pending) as progress:
        while pending:
            others = []
            for run in pending:
                progress.set_description(f"{run.job.name} seed {run.job.seed}")
                try:
                    if not try_to_execute(run, results, num_gpus, progress):
                        others.append(run)
                except RunFailed as error:
                    errors.append(error)
                    progress.write(f"failed: {error}")
            pending = others
            time.sleep(POLL_SECONDS if pending else 0)
    return errors
