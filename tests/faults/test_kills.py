"""kill -9 of trainings, whose next start goes on."""

import random
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from tally import counted
from torch.distributed import FileStore, HashStore
from trainings import (
    FULL,
    ITERATIONS,
    TORCHRUN,
    Training,
    assert_same,
    assert_tag_is_sound,
    iteration_of,
)

from scopenet import ConfigError
from scopenet.engine import launch
from scopenet.engine.launch import go_on_after_restart
from scopenet.engine.reliability.checkpoint_file import TAG, is_sound, newest_sound
from scopenet.engine.reliability.workers import fresh_store

pytestmark = pytest.mark.faults

MOMENTS = {
    "seconds": lambda rng, checkpoint: f"{rng.uniform(0, 3):.2f}",
    "byte": lambda rng, checkpoint: rng.randrange(2 * checkpoint),
    "event": lambda rng, checkpoint: rng.randint(1, 12),
    "iteration": lambda rng, checkpoint: rng.randrange(ITERATIONS),
}
NAMES = {
    "seconds": "kill -9 after a random time",
    "byte": "kill -9 while the bytes of a checkpoint are written",
    "event": "kill -9 before a file is synced or moved into place",
    "iteration": "kill -9 after the losses of an iteration",
}


def kinds_of_kills() -> list[str]:
    return [*MOMENTS] * 5 if FULL else ["seconds", "byte", "event"]


def test_kills_at_random_moments(coco, undisturbed, tmp_path):
    rng = random.Random(0)
    checkpoint = (undisturbed.folder / "model_final.pth").stat().st_size
    training = Training(coco, tmp_path / "output")
    pending = kinds_of_kills()
    rng.shuffle(pending)
    number = 0
    while pending:
        kind = pending[-1]
        with counted(NAMES[kind]) as row:
            done = len(training.entries())
            process = training.start("--resume", KILL=f"{kind}:{MOMENTS[kind](rng, checkpoint)}")
            code = process.wait(timeout=300)
            assert_tag_is_sound(training.folder)
            goes_on(training, done, row)
            if code == 0:  # it came to its end before: a new one gets the kill
                assert_same(training, undisturbed)
                number += 1
                training = Training(coco, tmp_path / f"output_{number}")
                row.tried -= 1
                row.survived -= 1
                continue
            assert code == -signal.SIGKILL, training.log()[-3000:]
            pending.pop()
    with counted(NAMES[kind], 0) as row:
        done = len(training.entries())
        training.run("--resume")
        goes_on(training, done, row)
    assert_same(training, undisturbed)


def goes_on(training: Training, done: int, row) -> None:
    """Counts what had to be computed again, in a start that found ``done`` entries."""
    iterations = training.iterations()
    if 0 < done < len(iterations):
        row.again.append(iterations[done - 1] + 1 - iterations[done])
    if (training.folder / TAG).exists():
        path, damaged = newest_sound(training.folder)
        row.lost += len(damaged)
        assert iteration_of(path) <= max(iterations)


def test_worker_killed_under_torchrun(coco, tmp_path):
    """Without --resume: what is started again goes on all the same, and so does an average."""
    average = ["SOLVER.EMA.ENABLED", "True"]
    launcher = (*TORCHRUN, "--max-restarts", "2")
    whole = Training(coco, tmp_path / "whole", *average)
    whole.run(launcher=launcher)
    kills = [("0", "event:9"), ("1", "iteration:6")] if FULL else [("1", "iteration:6")]
    for rank, moment in kills:
        training = Training(coco, tmp_path / f"output_{rank}", *average)
        with counted("kill -9 of one of two workers under torchrun") as row:
            training.run(launcher=launcher, KILL=moment, KILL_RANK=rank)
            iterations = training.iterations()
            row.again.append(len(iterations) - ITERATIONS)
            assert row.again[-1] > 0
            assert_same(training, whole)


def test_store_with_the_keys_of_dead_workers():
    """Two starts of three workers in one store, of which the first dies in the middle."""
    kept = HashStore()
    kept.set_timeout(timedelta(seconds=10))
    for i, dead in enumerate(["of_1", "of_2"]):
        kept.set(f"name_{dead}", f"dead{i}")
    with ThreadPoolExecutor(6) as pool:
        for start in ("first", "second"):
            stores = [*pool.map(lambda rank: fresh_store(kept, rank, 3), range(3))]
            assert not any(x.check(["address"]) for x in stores)
            stores[0].set("address", start)
            assert [x.get("address").decode() for x in stores] == [start] * 3


def test_torchrun_workers_use_such_a_store(tmp_path, monkeypatch):
    """What they would read of the dead otherwise is a matter of milliseconds."""
    kept = FileStore(str(tmp_path / "store"), 1)
    rendezvous = iter([(kept, 0, 1)])
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda url: rendezvous)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")
    seen = []
    monkeypatch.setattr(launch, "fresh_store", lambda *args: seen.append(args) or args[0])
    launch.launch(lambda args: None, None, "cpu")
    assert seen == [(kept, 0, 1)]


def test_torchrun_does_not_mix_trainings(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    args = SimpleNamespace(resume=False)
    go_on_after_restart(args, str(tmp_path))
    assert not args.resume
    (tmp_path / "model_0000003.pth").write_bytes(b"of another training")
    with pytest.raises(ConfigError, match=f"{tmp_path} has checkpoints, and workers"):
        go_on_after_restart(args, str(tmp_path))
    go_on_after_restart(SimpleNamespace(resume=True), str(tmp_path))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    go_on_after_restart(args, str(tmp_path))
    assert args.resume


def test_worker_killed_under_num_gpus(coco, tmp_path):
    training = Training(coco, tmp_path / "output")
    with counted("kill -9 of one of two workers under --num-gpus: ends with a sentence") as row:
        flags = ["--num-gpus", "2", "--dist-url", "auto"]
        training.run(*flags, code=1, KILL="iteration:6", KILL_RANK="1")
        assert "error: A worker process was killed" in training.log()
        path, damaged = newest_sound(training.folder)
        assert path.name == "model_0000003.pth" and not damaged
        row.again.append(max(training.iterations()) + 1 - 4)
        if FULL:
            training.run(*flags, "--resume")
            assert {*training.iterations()} == {*range(ITERATIONS)}
            assert is_sound(training.folder / "model_final.pth")
