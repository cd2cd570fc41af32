"""A disk without room: the training ends with a sentence, and goes on when there is room again."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from tally import counted
from trainings import FULL, Training, assert_same, assert_tag_is_sound

from scopenet.engine.reliability.checkpoint_file import TAG, newest_sound

pytestmark = pytest.mark.faults


def check_stopped(training: Training, last: str, row) -> None:
    assert training.log().splitlines()[-1].startswith("error: No space left on the disk")
    assert "Traceback" not in training.log()
    assert_tag_is_sound(training.folder)
    path, damaged = newest_sound(training.folder)
    assert path.name == last and not damaged
    assert not [*training.folder.glob("*.unfinished")]
    row.again.append(max(training.iterations()) - int(path.stem[-7:]))


@pytest.mark.parametrize("workers", [0, 2] if FULL else [2])
def test_file_that_cannot_grow(coco, undisturbed, tmp_path, workers):
    training = Training(coco, tmp_path / "output", "DATALOADER.NUM_WORKERS", str(workers))
    size = (undisturbed.folder / "model_final.pth").stat().st_size
    with counted("files that cannot grow (RLIMIT_FSIZE)") as row:
        training.folder.mkdir()
        shutil.copy(undisturbed.folder / "model_0000003.pth", training.folder)
        (training.folder / TAG).write_text("model_0000003.pth")
        training.run("--resume", code=1, FILE_BYTES=size // 2)
        check_stopped(training, "model_0000003.pth", row)
        training.run("--resume")
        assert_same(training, undisturbed, start=4)


@contextmanager
def small_disk(folder: Path, size: int):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def can_mount(folder: Path) -> bool:
    try:
        with small_disk(folder, 2**20):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False


def test_full_disk(coco, undisturbed, tmp_path):
    if os.geteuid() != 0 or not can_mount(tmp_path / "trial"):
        return  # test_file_that_cannot_grow is for those who may not mount
    size = (undisturbed.folder / "model_final.pth").stat().st_size
    disk = tmp_path / "disk"
    with small_disk(disk, int(2.5 * size)), counted("a full disk (tmpfs)") as row:
        training = Training(coco, disk / "output")
        training.losses_file = tmp_path / "losses"
        training.log_file = tmp_path / "log"
        training.run(code=1)
        check_stopped(training, "model_0000007.pth", row)
        subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
        training.run("--resume")
        assert_same(training, undisturbed)
