"""Checkpoint files that are damaged, half written, or do not fit on the disk."""

import errno
import os
import random
import resource
import signal
import time
import warnings

import pytest
import torch
from tally import counted
from trainings import FULL, assert_tag_is_sound

from scopenet.engine.reliability.checkpoint_file import (
    TAG,
    is_sound,
    newest_sound,
    write_checkpoint,
)

pytestmark = pytest.mark.faults


def small(value: float) -> dict:
    return {"model": {"x": torch.full((3,), float(value))}}


def value_of(path) -> float:
    return torch.load(path, weights_only=True)["model"]["x"][0].item()


def in_child(work) -> int:
    """The process id of a fork that does ``work``; its exit code is 0 if that raises nothing."""
    with warnings.catch_warnings():  # of threads, none of which the child needs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)  # those of OpenMP are not in the child: it would wait for them
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "model_0000001.pth"
    write_checkpoint(path, small(1))
    content = path.read_bytes()
    assert is_sound(path) and value_of(path) == 1
    positions = range(0, len(content), 1 if FULL else 5)
    with counted("a bit flipped in a checkpoint", len(positions)):
        for position in positions:
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            assert not is_sound(path), position
    sizes = range(0, len(content), 1 if FULL else 5)
    with counted("a checkpoint truncated", len(sizes)):
        for size in sizes:
            path.write_bytes(content[:size])
            assert not is_sound(path), size


def test_damage_to_a_checkpoint_of_a_training(undisturbed, tmp_path):
    whole = (undisturbed.folder / "model_final.pth").read_bytes()
    rng, path = random.Random(0), tmp_path / "model_final.pth"
    path.write_bytes(whole)
    assert is_sound(path)
    trials = 500 if FULL else 20
    with counted("a bit flipped in a checkpoint", trials):
        for _ in range(trials):
            position = rng.randrange(len(whole))
            with open(path, "r+b") as f:
                f.seek(position)
                f.write(bytes([whole[position] ^ 1 << rng.randrange(8)]))
            assert not is_sound(path), position
            with open(path, "r+b") as f:
                f.seek(position)
                f.write(whole[position : position + 1])
    assert is_sound(path)
    sizes = sorted((rng.randrange(len(whole)) for _ in range(trials)), reverse=True)
    with counted("a checkpoint truncated", trials):
        for size in sizes:
            os.truncate(path, size)
            assert not is_sound(path), size


def test_files_of_other_programs_are_judged_by_the_sums_inside(tmp_path):
    path = tmp_path / "model_0000001.pth"
    torch.save(small(1), path)
    assert is_sound(path)
    content = path.read_bytes()
    data = content.index(torch.full((3,), 1.0).numpy().tobytes())
    path.write_bytes(content[:data] + b"\1" + content[data + 1 :])
    assert not is_sound(path)
    path.write_bytes(content[:-1])
    assert not is_sound(path)


@pytest.mark.parametrize("name", ["model_0000002.pth", "model_0000001.pth"])
def test_kill_at_every_step_of_a_save(tmp_path, name):
    """Wherever it is killed, what the tag names is whole, and old or new: beside the old one, and
    in its place."""
    steps, found = 0, []
    while True:
        folder = tmp_path / str(steps)
        folder.mkdir()
        write_checkpoint(folder / "model_0000001.pth", small(1))

        def save_and_die(folder=folder, number=steps):
            left = iter(range(number))

            def dying(function):
                def called(*args, **kwargs):
                    if next(left, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **kwargs)

                return called

            os.fsync, os.replace, torch.save = map(dying, (os.fsync, os.replace, torch.save))
            write_checkpoint(folder / name, small(2))

        with counted("kill -9 at a chosen step of a save"):
            status = os.waitpid(in_child(save_and_die), 0)[1]
            assert_tag_is_sound(folder)
            path, damaged = newest_sound(folder)
            assert damaged == []
            found.append((path.name, value_of(path)))
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        steps += 1
    assert steps == 7  # save, sync, move, sync of the folder; the last three for the tag
    old, new = ("model_0000001.pth", 1), (name, 2)
    assert found[0] == old and found[-1] == new and {*found} == {old, new}


def test_kill_at_random_moments_of_saves(tmp_path):
    rng, numbers = random.Random(0), iter(range(1, 10**6))
    for name in ("model_0000000.pth", "model_best.pth"):
        write_checkpoint(tmp_path / name, small(0))

    def save_again_and_again(start):
        for i in range(start, start + 10**4):
            data = {"model": {"x": torch.full((1 << 18,), float(i))}}
            for name in (f"model_{i % 3:07d}.pth", "model_best.pth"):
                write_checkpoint(tmp_path / name, data)

    kills = 200 if FULL else 30
    with counted("kill -9 while checkpoints are written one after the other", kills):
        for _ in range(kills):
            child = in_child(lambda: save_again_and_again(1000 * next(numbers)))
            time.sleep(rng.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
            assert_tag_is_sound(tmp_path)
            tag = (tmp_path / TAG).read_text()
            assert tag != "model_best.pth"
            value_of(tmp_path / tag)
            assert is_sound(tmp_path / "model_best.pth")
    assert len([*tmp_path.iterdir()]) <= 6  # three, the best, the tag, and one unfinished file


@pytest.mark.parametrize("what", ["checkpoint", "large checkpoint", "tag"])
def test_a_file_that_cannot_be_written_leaves_what_is_there(tmp_path, what):
    old, new = (tmp_path / f"model_000000{i}.pth" for i in (1, 2))
    write_checkpoint(old, small(1))
    size = 4 if what == "tag" else old.stat().st_size // 2

    def save():
        if what == "tag":  # the checkpoint fits, the tag does not
            fsync = os.fsync
            limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
            os.fsync = lambda f: (fsync(f), limit())
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(OSError) as caught:
            number = 2**20 if what == "large checkpoint" else 3
            write_checkpoint(new, {"model": {"x": torch.zeros(number)}})
        assert caught.value.errno == errno.EFBIG
        name = TAG if what == "tag" else new.name
        assert caught.value.filename == str(tmp_path / name)

    with counted("no room for a checkpoint or for last_checkpoint"):
        assert os.waitpid(in_child(save), 0)[1] == 0
        assert (tmp_path / TAG).read_text() == old.name
        assert value_of(old) == 1 and newest_sound(tmp_path) == (old, [])
        whole = [old.name, TAG] + ([new.name] if what == "tag" else [])
        assert {x.name for x in tmp_path.iterdir()} == set(whole)
