"""Memory until the first image of a training is read, beside Detectron2's own loader."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_json import write_json_without_images

import scopenet

ROOT = Path(scopenet.__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("start_of_training.py")


def memory_of(who: str, json_file: Path) -> tuple[int, int]:
    """Return the MiB that were taken at most, and those that are kept."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), who, str(json_file)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    most, kept = re.search(r"(\d+) MiB at most, (\d+) MiB at the end", done.stdout).groups()
    return int(most), int(kept)


@pytest.mark.slow
def test_start_takes_little_more_memory_than_detectron2s(tmp_path):
    path = tmp_path / "big.json"
    write_json_without_images(path, 40_000, 290_000, 80)  # a third of COCO
    ours, theirs = memory_of("ours", path), memory_of("detectron2", path)
    assert theirs[0] > 200  # MiB, of objects that are made of the json
    assert ours[0] <= 1.2 * theirs[0] and ours[1] <= theirs[1]
