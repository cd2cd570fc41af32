"""run_experiments.py as a whole: killed at any moment, it goes on; what is done stays."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments.results import METRICS, Results
from scopenet.data.digits import prepare_digits

ROOT = Path(__file__).parents[1]
PRESET = """
MODEL:
  WEIGHTS: ""
  BACKBONE: {FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, NORM: "BN", STRIDE_IN_1X1: False}
  FPN: {OUT_CHANNELS: 32}
  SCOPENET: {NUM_CLASSES: 10, CONV_DIM: 32, NUM_CONVS: 1, PRIOR_PROB: 0.2, SCORE_THRESH_TEST: 0.0}
DATASETS:
  TRAIN: ("digits_train",)
  TEST: ("digits_val",)
DATALOADER: {NUM_WORKERS: 0}
INPUT:
  MIN_SIZE_TRAIN: (64,)
  MIN_SIZE_TEST: 64
  RANDOM_FLIP: "none"
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.01, MAX_ITER: 60, STEPS: (), CHECKPOINT_PERIOD: 10}
TEST: {DETECTIONS_PER_IMAGE: 10}
VERSION: 2
"""
CONFIGS = [
    "paper/table3/no_p_loc.yaml",
    "paper/table3/p_loc.yaml",
    "paper/table1/guided_score.yaml",
]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
SAME = ["config", "dataset", "seed", "iterations", *METRICS, "training"]


def start(folder: Path, output: str, *arguments: str) -> subprocess.Popen:
    script = ROOT / "projects/ScopeNet/run_experiments.py"
    options = ["--preset", str(folder / "mini.yaml"), "--output", str(folder / output)]
    return subprocess.Popen(
        [sys.executable, str(script), *CONFIGS, *options, *arguments],
        env=os.environ | ENVIRONMENT | {"DETECTRON2_DATASETS": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    return text


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def finished_trainings(output: Path) -> int:
    return len(list(output.glob("mini/*/seed0/training.json")))


def under_way(output: Path) -> bool:
    """Whether a training has left a checkpoint and is not complete."""
    checkpoints = output.glob("mini/*/seed0/model_0000019.pth")
    return any(not (path.parent / "training.json").exists() for path in checkpoints)


@pytest.mark.slow
def test_killed_harness_goes_on(tmp_path):
    prepare_digits(tmp_path, train=8, val=4, size=64)
    (tmp_path / "mini.yaml").write_text(PRESET)
    text = finish(start(tmp_path, "whole", "--seeds", "0"))
    expected = Results(tmp_path / "whole" / "results.csv").read()
    assert "| table3/p_loc " in text and len(expected) == 3
    assert expected["AP"].notna().all()
    # Two rows of one network: one training.
    assert expected["training"].nunique() == 2 and len(list(tmp_path.glob("whole/mini/*/*"))) == 2

    killed = tmp_path / "killed"
    for finished in (0, 1):  # killed in its first training, then in its second one
        process = start(tmp_path, "killed", "--seeds", "0")
        wait_for(lambda n=finished: under_way(killed) and finished_trainings(killed) == n)
        process.kill()
        process.communicate()
    assert finished_trainings(killed) == 1
    finish(start(tmp_path, "killed", "--seeds", "0"))
    results = Results(tmp_path / "killed" / "results.csv").read()
    pd.testing.assert_frame_equal(results[SAME], expected[SAME])

    # Nothing that is finished runs again.
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("killed/mini/*/seed0/*")}
    assert "3 of 3 runs are done" in finish(start(tmp_path, "killed", "--seeds", "0"))
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("killed/mini/*/seed0/*")}
