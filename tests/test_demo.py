"""The whole way of ``scopenet demo`` on a miniature."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scopenet import cli

ROOT = Path(__file__).resolve().parent.parent
TINY = "SOLVER.MAX_ITER 3 SOLVER.IMS_PER_BATCH 2 MODEL.SCOPENET.SCORE_THRESH_TEST 0.0".split()


def run_demo(tmp_path: Path) -> subprocess.CompletedProcess:
    arguments = ["--output", "out", "--train", "6", "--val", "3", *TINY]
    environment = os.environ | {"DETECTRON2_DATASETS": "data", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "scopenet", "demo", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_demo_trains_evaluates_and_draws_and_does_nothing_twice(tmp_path):
    first = run_demo(tmp_path)
    out = tmp_path / "out"
    checkpoint = out / "training" / "model_final.pth"
    written = checkpoint.stat().st_mtime_ns

    dataset = tmp_path / "data/bright_digits"
    annotations = json.loads((dataset / "annotations/instances_val.json").read_text())
    assert len(annotations["images"]) == 3
    pictures = np.asarray(Image.open(out / "detections.png"))
    # Two pairs side by side, two rows, every image of 160 px enlarged twice.
    assert pictures.shape == (2 * 320 + 8, 2 * (2 * 320 + 4) + 24, 3)
    lines = (out / "training" / "metrics.json").read_text().splitlines()
    losses = [json.loads(line).get("total_loss") for line in lines]
    assert np.isfinite([loss for loss in losses if loss is not None]).all() and any(losses)
    table = (out / "ap.md").read_text()
    assert "3 iterations, seed 0" in table and "AP75" in table
    assert table.splitlines()[2] in first.stdout
    assert "(cls_score): Conv2d" not in first.stdout
    assert "scopenet predict --model out/training --input" in first.stdout
    assert {path.name for path in out.glob("*.png")} == {
        "anchors.png",
        "detections.png",
        "losses.png",
    }

    second = run_demo(tmp_path)
    assert checkpoint.stat().st_mtime_ns == written
    assert table.splitlines()[2] in second.stdout


def test_impossible_number_of_images_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="error: Digits needs an image in each split"):
        cli.run("demo", ["--val", "0"])
    assert list(tmp_path.iterdir()) == []
