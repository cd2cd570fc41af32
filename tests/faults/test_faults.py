"""What can go wrong while training, done on purpose: nothing may be lost but the iterations since
the last checkpoint, and what goes on ends as if it had never been stopped.

In a short form by default; with SCOPENET_ALL_FAULTS=1 (`make test-faults`) in full.
"""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from detectron2.engine import SimpleTrainer
from miniature import TINY, job, mini_datasets, mini_overrides, one_thread, write_coco

import scopenet
from scopenet import ConfigError
from scopenet.engine.checksum import TAG, is_sound, newest_sound, write_checkpoint
from scopenet.engine.interruption import TRY_AGAIN
from scopenet.engine.main import main

pytestmark = [pytest.mark.faults, pytest.mark.slow]

FULL = os.environ.get("SCOPENET_ALL_FAULTS", "") not in ("", "0")
KILLS, TRAINING_KILLS = (200, 20) if FULL else (30, 3)
ROOT = Path(scopenet.__file__).resolve().parents[1]
SCRIPT = str(ROOT / "projects/ScopeNet/train_net.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ITERATIONS, PERIOD = 40, 4
CHECKPOINT_MB = 29


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    write_coco(root, num_images=8)
    return root


def start(coco: Path, output: Path, *more: str, launcher=(), flags=("--resume",)):
    """A training in a process group of its own, what it prints in ``output``.log."""
    env = os.environ | {
        "DETECTRON2_DATASETS": str(coco),
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "ignore", *launcher, SCRIPT, *flags]
    command += ["--config-file", str(ROOT / "configs/ScopeNet_R_50_FPN_1x.yaml"), *TINY]
    command += ["SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.CHECKPOINT_PERIOD", str(PERIOD)]
    command += ["DATASETS.TEST", "()", "OUTPUT_DIR", str(output), *more]
    with open(output.with_suffix(".log"), "a") as log:
        return subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=output.parent
        )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, path
        time.sleep(0.01)


def finish(process: subprocess.Popen, output: Path, code: int = 0) -> None:
    assert process.wait(timeout=300) == code, output.with_suffix(".log").read_text()[-3000:]


def state(path: Path) -> dict[str, torch.Tensor]:
    """Weights and momenta."""
    loaded = torch.load(path, weights_only=True)
    momenta = loaded["trainer"]["_trainer"]["optimizer"]["state"]
    return loaded["model"] | {str(k): v["momentum_buffer"] for k, v in momenta.items()}


def assert_same_end(output: Path, expected: Path) -> None:
    found, wanted = (state(x / "model_final.pth") for x in (output, expected))
    assert found.keys() == wanted.keys()
    assert [k for k in wanted if not torch.equal(found[k], wanted[k])] == []


@pytest.fixture(scope="module")
def uninterrupted(coco, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "run"
    finish(start(coco, output), output)
    return output


def iteration(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["iteration"]


def test_kill_at_random_moments(coco, uninterrupted, tmp_path):
    output, rng, lost = tmp_path / "run", random.Random(0), 0
    for _ in range(TRAINING_KILLS):
        before = newest_sound(output)[0] if (output / TAG).exists() else None
        process = start(coco, output)
        time.sleep(rng.uniform(3, 9))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (output / TAG).exists():
            path, damaged = newest_sound(output)
            lost += len(damaged)
            assert before is None or iteration(path) >= iteration(before)
    finish(start(coco, output), output)
    assert lost == 0
    assert_same_end(output, uninterrupted)


def in_child(work) -> int:
    """The process id of a fork that does ``work``."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child


def test_kill_during_a_save(tmp_path):
    rng, contents = random.Random(0), [os.urandom(4 << 20) for _ in range(2)]

    def save_again_and_again():
        while True:
            for i, content in enumerate(contents):
                write_checkpoint(tmp_path / f"model_{i:07d}.pth", content)
                write_checkpoint(tmp_path / f"model_{i + 2:07d}.pth", content)

    write_checkpoint(tmp_path / "model_0000000.pth", contents[0])
    for _ in range(KILLS):
        child = in_child(save_again_and_again)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        tagged = tmp_path / (tmp_path / TAG).read_text()
        assert tagged.read_bytes() in contents


def test_every_flipped_bit_and_truncation_is_seen(tmp_path):
    path = tmp_path / "model_0000001.pth"
    torch.save({"model": {"x": torch.arange(3.0)}}, path)
    content = path.read_bytes()
    write_checkpoint(path, content)
    assert is_sound(path)
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert not is_sound(path), position
        if position % 50 == 0:
            path.write_bytes(content[:position])
            assert not is_sound(path), position


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "tag"])
def test_resume_falls_back_and_says_so(coco, uninterrupted, tmp_path, damage):
    output = tmp_path / "run"
    process = start(coco, output)
    wait_for(output / "model_0000011.pth.sha256", process)
    os.killpg(process.pid, signal.SIGTERM)
    finish(process, output, TRY_AGAIN)
    newest = output / (output / TAG).read_text()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "tag":
        (output / TAG).write_bytes(b"\0\xff")
    elif damage == "remove":
        newest.unlink()
    else:
        newest.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    finish(start(coco, output), output)
    said = f"{newest.name} is damaged or missing" in output.with_suffix(".log").read_text()
    assert said == (damage != "tag")
    assert_same_end(output, uninterrupted)


@pytest.mark.parametrize("loaders", [0, 2])
def test_storm_of_signals(coco, uninterrupted, tmp_path, loaders):
    output, more = tmp_path / "run", ["DATALOADER.NUM_WORKERS", str(loaders)]
    process = start(coco, output, *more)
    wait_for(output / "model_0000007.pth.sha256", process)
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.005)
    finish(process, output, TRY_AGAIN)
    newest, damaged = newest_sound(output)
    assert not damaged
    assert "Interrupted and saved" in output.with_suffix(".log").read_text()
    assert 7 <= iteration(newest) < ITERATIONS - 1
    finish(start(coco, output, *more), output)
    assert_same_end(output, uninterrupted)


def test_full_disk_leaves_what_is_there(tmp_path):
    path = tmp_path / "model_0000001.pth"
    torch.save({"model": {"x": torch.arange(3.0)}}, path)
    old = path.read_bytes()
    write_checkpoint(path, old)
    names = sorted(x.name for x in tmp_path.iterdir())

    def save_too_much():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        for name in (path.name, "model_0000002.pth"):
            try:
                write_checkpoint(tmp_path / name, bytes(9000))
            except OSError as error:
                if error.errno != errno.EFBIG:
                    os._exit(2)
            else:
                os._exit(3)
        os._exit(0)

    assert os.waitpid(in_child(save_too_much), 0)[1] == 0
    assert path.read_bytes() == old
    assert newest_sound(tmp_path) == (path, [])
    assert set(names) - {path.name + ".sha256"} <= {x.name for x in tmp_path.iterdir()}
    assert not [*tmp_path.glob("*.unfinished")]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_full_disk_stops_with_a_sentence(coco, uninterrupted, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={int(2.5 * CHECKPOINT_MB)}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], check=True)
    try:
        output = disk / "run"
        process = start(coco, output)
        process.wait(timeout=300)
        assert process.returncode == 1
        last = output.with_suffix(".log").read_text().strip().splitlines()[-1]
        assert last.startswith("error: No space left on the disk")
        newest, damaged = newest_sound(output)
        assert (newest.name, damaged) == ("model_0000007.pth", [])
        subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
        finish(start(coco, output), output)
        assert_same_end(output, uninterrupted)
    finally:
        subprocess.run(["umount", disk], check=True)


def workers_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return list(map(int, children.split()))


def test_torchrun_starts_killed_workers_again(coco, tmp_path):
    whole, output = tmp_path / "whole", tmp_path / "run"
    launcher = [*TORCHRUN, "--max-restarts", "2"]
    finish(start(coco, whole, launcher=launcher), whole)
    process = start(coco, output, launcher=launcher)
    wait_for(output / "model_0000007.pth.sha256", process)
    os.kill(workers_of(process)[-1], signal.SIGKILL)
    finish(process, output)
    log = output.with_suffix(".log").read_text()
    assert "Starting training from iteration 0" in log
    assert log.count("Starting training from iteration") == 2
    assert_same_end(output, whole)


def test_sigterm_to_the_starter_of_two_workers(coco, tmp_path):
    output = tmp_path / "run"
    flags = ["--resume", "--num-gpus", "2", "--dist-url", "auto"]
    process = start(coco, output, flags=flags)
    wait_for(output / "model_0000003.pth.sha256", process)
    process.terminate()
    finish(process, output, TRY_AGAIN)
    assert newest_sound(output)[1] == []


@pytest.fixture
def mini(tmp_path):
    with mini_datasets(tmp_path / "data"), one_thread():
        yield


@pytest.mark.parametrize("bad", [range(2, 4), range(2, 99)])
def test_non_finite_iterations_are_skipped(mini, tmp_path, monkeypatch, bad):
    more = ["SOLVER.MAX_ITER", "6", "SOLVER.MAX_SKIPPED_ITERATIONS", "2", "DATASETS.TEST", "()"]
    output, written, run_step = tmp_path / "run", [], SimpleTrainer.run_step
    write_metrics = SimpleTrainer.write_metrics

    def poisoned(self):
        model = self.model
        factor = float("nan") if self.iter in bad else 1.0
        hook = model.head.cls_score.register_forward_hook(lambda m, i, x: x * factor)
        try:
            run_step(self)
        finally:
            hook.remove()

    def record(losses, data_time, cur_iter, prefix=""):
        written.append(cur_iter)
        write_metrics(losses, data_time, cur_iter, prefix)

    monkeypatch.setattr(SimpleTrainer, "run_step", poisoned)
    monkeypatch.setattr(SimpleTrainer, "write_metrics", staticmethod(record))
    arguments = job("ScopeNet_R_50_FPN_1x.yaml", *mini_overrides(output, *more))
    if len(bad) > 2:
        with pytest.raises(ConfigError, match="3 iterations in a row .* learning rate .* data"):
            main(arguments)
        assert written == [0, 1]
        return
    main(arguments)
    assert written == [0, 1, 4, 5]
    assert len([*(output / "non_finite").glob("*.json")]) == 2
    note = (output / "non_finite/iteration_0000002_worker_0.json").read_text()
    assert ".png" in note and '"image_id"' in note
    weights = torch.load(output / "model_final.pth", weights_only=True)["model"]
    assert all(bool(x.isfinite().all()) for x in weights.values())
