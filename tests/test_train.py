"""Training and evaluation through the real entry, on a miniature of a data set."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor, SimpleTrainer
from detectron2.utils.visualizer import Visualizer
from miniature import (
    CLASSES,
    TINY,
    TINY_IMAGES,
    TRAIN,
    VAL,
    job,
    lazy_overrides,
    mini_datasets,
    mini_overrides,
    one_thread,
    registered,
    write_coco,
)

import scopenet
from scopenet import ScopeHead, cli, load_config
from scopenet.engine import precision
from scopenet.engine.command import main
from scopenet.engine.launch import available_cores

ROOT = Path(scopenet.__file__).resolve().parents[1]
SCRIPT = ROOT / "projects" / "ScopeNet" / "train_net.py"
ONE_X = "ScopeNet_R_50_FPN_1x.yaml"
pytestmark = pytest.mark.usefixtures("closed_logs")

Losses = dict[int, dict[str, float]]
"""By iteration and name."""


class Interrupted(Exception):
    """What a test stops a training with."""


class Outcome(NamedTuple):
    results: dict | None  # of the evaluation
    losses: Losses


def run_job(config_file: str, *arguments: str, stop_at: int | None = None) -> Outcome:
    """The work of one process; Detectron2's metrics.json smooths the losses, these are exact.

    Args:
        stop_at: the iteration that does not come to its end.
    """
    losses: Losses = {}
    write_metrics = SimpleTrainer.write_metrics

    def record(loss_dict, data_time, cur_iter, prefix=""):
        if cur_iter == stop_at:
            raise Interrupted
        losses[cur_iter] = {name: loss.item() for name, loss in loss_dict.items()}
        write_metrics(loss_dict, data_time, cur_iter, prefix)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimpleTrainer, "write_metrics", staticmethod(record))
        try:
            results = main(job(config_file, *arguments))
        except Interrupted:
            results = None
    return Outcome(results, losses)


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")):
        yield


# Running statistics and momentum, a warm-up and a step of the learning rate: all of it has to
# survive a resume.
BASE_LR = 0.005
LONGER = [
    *("MODEL.RESNETS.NORM", "BN"),
    *("MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0"),
    *("SOLVER.BASE_LR", str(BASE_LR)),
    *("SOLVER.WARMUP_ITERS", "5"),
    *("SOLVER.STEPS", "(14,)"),
    *("SOLVER.MAX_ITER", "20"),
    *("SOLVER.CHECKPOINT_PERIOD", "10"),
]


class FinishedRun(NamedTuple):
    output_dir: Path
    overrides: list[str]
    results: dict
    losses: Losses


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory) -> FinishedRun:
    output_dir = tmp_path_factory.mktemp("uninterrupted")
    overrides = mini_overrides(output_dir, *LONGER)
    return FinishedRun(output_dir, overrides, *run_job(ONE_X, *overrides))


def weights(output_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(output_dir / "model_final.pth", weights_only=True)["model"]


def read_metrics(output_dir: Path, iteration: int) -> dict:
    """What metrics.json says of an iteration, on one line or on several."""
    lines = map(json.loads, (output_dir / "metrics.json").read_text().splitlines())
    metrics = {}
    for line in lines:
        metrics |= line if line["iteration"] == iteration else {}
    return metrics


def assert_equal_weights(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def assert_equal_results(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys() == {"bbox"}
    assert actual["bbox"] == pytest.approx(expected["bbox"], rel=0, abs=0, nan_ok=True)


def test_training_learns_and_evaluates(uninterrupted):
    totals = [sum(losses.values()) for losses in uninterrupted.losses.values()]
    assert list(uninterrupted.losses) == list(range(20))
    assert sum(totals[-4:]) < 0.9 * sum(totals[:4])
    assert uninterrupted.results["bbox"]["AP"] > 0
    evaluated = read_metrics(uninterrupted.output_dir, 20)
    assert evaluated["bbox/AP"] == uninterrupted.results["bbox"]["AP"]
    metrics = read_metrics(uninterrupted.output_dir, 19)
    assert metrics["lr"] == pytest.approx(0.1 * BASE_LR)  # after the step
    assert {"loss_cls", "loss_bin", "loss_loc", "bin_accuracy"} <= metrics.keys()
    assert (uninterrupted.output_dir / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_goes_on_as_if_never_stopped(uninterrupted, tmp_path, num_workers):
    loader = ["DATALOADER.NUM_WORKERS", str(num_workers)]
    overrides = mini_overrides(tmp_path, *LONGER, *loader)
    _, stopped = run_job(ONE_X, *overrides, stop_at=13)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000009.pth"
    results, resumed = run_job(ONE_X, "--resume", *overrides)
    # Bit for bit: on a CPU the same operations in the same order give the same numbers.
    assert stopped == {i: uninterrupted.losses[i] for i in range(13)}
    assert resumed == {i: uninterrupted.losses[i] for i in range(10, 20)}
    assert_equal_weights(weights(tmp_path), weights(uninterrupted.output_dir))
    assert_equal_results(results, uninterrupted.results)
    for name in ("lr", "bbox/AP"):
        found, expected = [
            read_metrics(folder, 19 if name == "lr" else 20)[name]
            for folder in (tmp_path, uninterrupted.output_dir)
        ]
        assert found == expected


def test_resume_of_a_finished_run_changes_nothing(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted.output_dir, tmp_path, dirs_exist_ok=True)
    overrides = mini_overrides(tmp_path, *LONGER)
    results, losses = run_job(ONE_X, "--resume", *overrides)
    assert losses == {}
    assert_equal_weights(weights(tmp_path), weights(uninterrupted.output_dir))
    assert_equal_results(results, uninterrupted.results)


def test_without_resume_a_run_starts_anew(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted.output_dir, tmp_path, dirs_exist_ok=True)
    overrides = mini_overrides(tmp_path, *LONGER, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "()")
    _, losses = run_job(ONE_X, *overrides)
    assert losses == {i: uninterrupted.losses[i] for i in range(2)}


def test_seed_changes_the_run(uninterrupted, tmp_path):
    more = ["SEED", "1", "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()"]
    _, losses = run_job(ONE_X, *mini_overrides(tmp_path, *LONGER, *more))
    assert losses[0] != uninterrupted.losses[0]


def test_eval_only_repeats_the_last_evaluation(uninterrupted, tmp_path):
    final = str(uninterrupted.output_dir / "model_final.pth")
    overrides = [*uninterrupted.overrides, "OUTPUT_DIR", str(tmp_path)]
    results, losses = run_job(ONE_X, "--eval-only", *overrides, "MODEL.WEIGHTS", final)
    assert_equal_results(results, uninterrupted.results)
    assert losses == {}
    earlier = str(uninterrupted.output_dir / "model_0000009.pth")
    results, _ = run_job(ONE_X, "--eval-only", *overrides, "MODEL.WEIGHTS", earlier)
    assert results["bbox"]["AP"] != uninterrupted.results["bbox"]["AP"]


def test_eval_only_resume_takes_the_last_checkpoint(uninterrupted, tmp_path):
    for name in ("last_checkpoint", "model_final.pth"):
        shutil.copy(uninterrupted.output_dir / name, tmp_path)
    overrides = [*uninterrupted.overrides, "OUTPUT_DIR", str(tmp_path)]
    results, _ = run_job(ONE_X, "--eval-only", "--resume", *overrides)
    assert_equal_results(results, uninterrupted.results)


# LazyConfig


# Derived from the project's file by a program, as users do; the rest is overrides.
TINY_LAZY = """
from detectron2.config import LazyCall as L, LazyConfig
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock

from scopenet.config_file import find_config

base = LazyConfig.load(find_config("ScopeNet_R_50_FPN_1x.py"))
dataloader, model, optimizer = base.dataloader, base.model, base.optimizer
lr_multiplier, train = base.lr_multiplier, base.train
del base

model.backbone.bottom_up = L(ResNet)(
    stem=L(BasicStem)(out_channels=8, norm="BN"),
    stages=[
        L(ResNet.make_stage)(
            block_class=BasicBlock, num_blocks=1, stride_per_block=[stride],
            in_channels=channels, out_channels=2 * channels, norm="BN",
        )
        for channels, stride in ((8, 1), (16, 2), (32, 2), (64, 2))
    ],
    out_features=["res3", "res4", "res5"],
)
model.backbone.top_block.in_channels = 128
model.backbone.out_channels = 32
model.head.update(input_shape=[ShapeSpec(channels=32)] * 5, conv_dim=64, num_convs=1)
model.test_score_thresh = 0.0
"""


def test_lazy_config_trains_resumes_and_evaluates(data, tmp_path):
    config_file = str(tmp_path / "tiny.py")
    Path(config_file).write_text(TINY_LAZY)
    first, both = tmp_path / "first", tmp_path / "both"
    more = ["model.head.norm=GN", "train.seed=0", "train.checkpointer.period=1"]
    results, losses = run_job(config_file, *lazy_overrides(first, *more))
    assert list(losses) == [0, 1]
    assert math.isfinite(sum(losses[1].values())) and losses[1] != losses[0]
    assert "AP" in results["bbox"]
    checkpoint = torch.load(first / "model_final.pth", weights_only=True)
    assert checkpoint["class_names"] == ["red", "green", "blue"]
    assert "num_convs: 1" in checkpoint["config"] and "ScopeNet" in checkpoint["config"]

    run_job(config_file, *lazy_overrides(both, *more), stop_at=1)
    resumed = run_job(config_file, "--resume", *lazy_overrides(both, *more))
    assert resumed.losses == {1: losses[1]}
    assert_equal_results(resumed.results, results)

    final = f"train.init_checkpoint={first / 'model_final.pth'}"
    again, _ = run_job(config_file, "--eval-only", *lazy_overrides(tmp_path / "eval", *more, final))
    assert_equal_results(again, results)


# Precision


@pytest.fixture
def head_dtypes(monkeypatch) -> list[torch.dtype]:
    """Filled with those of the head's outputs in training."""
    dtypes = []
    forward = ScopeHead.forward

    def spy(self, features):
        outputs = forward(self, features)
        if self.training:
            dtypes.extend({x.dtype for maps in outputs for x in maps})
        return outputs

    monkeypatch.setattr(ScopeHead, "forward", spy)
    return dtypes


def without_evaluation(output_dir: Path, *more: str) -> list[str]:
    # Wide enough for two columns of p6: of maps with one, PyTorch's bfloat16 weight gradient of a
    # convolution with stride 2 is not always written (docs/performance.md).
    wide = ["INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MAX_SIZE_TRAIN", "192"]
    return mini_overrides(output_dir, "DATASETS.TEST", "()", *wide, *more)


@pytest.fixture(scope="module")
def in_float32(data, tmp_path_factory) -> Losses:
    output_dir = tmp_path_factory.mktemp("float32")
    return run_job(ONE_X, *without_evaluation(output_dir)).losses


def test_bfloat16_on_the_cpu(in_float32, tmp_path, monkeypatch, head_dtypes):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)  # it may be an emulation
    more = ["SOLVER.AMP.ENABLED", "True"]
    _, losses = run_job(ONE_X, *without_evaluation(tmp_path, *more))
    assert head_dtypes == [torch.bfloat16] * 2
    for i in range(2):
        # bfloat16 has 8 significant bits; the losses themselves are computed in float32.
        assert losses[i] == pytest.approx(in_float32[i], rel=0.05)
        assert losses[i] != in_float32[i]
    assert {x.dtype for x in weights(tmp_path).values()} == {torch.float32}


def test_cpu_without_bfloat16_trains_in_float32(in_float32, tmp_path, monkeypatch, head_dtypes):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    more = ["SOLVER.AMP.ENABLED", "True"]
    _, losses = run_job(ONE_X, *without_evaluation(tmp_path, *more))
    assert head_dtypes == [torch.float32] * 2
    assert losses == in_float32


# Images without annotations


@pytest.mark.parametrize("filter_empty, expected", [("False", 3), ("True", 0)])
def test_images_without_annotations(tmp_path, filter_empty, expected):
    more = [
        *("DATALOADER.FILTER_EMPTY_ANNOTATIONS", filter_empty),
        *("SOLVER.IMS_PER_BATCH", "1"),
        *("SOLVER.MAX_ITER", "5"),
        *("MODEL.SCOPENET.CONV_DIM", "64"),  # one pixel is enough for a group of two channels
    ]
    with mini_datasets(tmp_path / "data", num_images=5, without_boxes=(0, 1, 4)):
        overrides = without_evaluation(tmp_path / "output", *more)
        _, losses = run_job("Trees-ScopeNet_R_50_FPN_GN.yaml", *overrides)
    # One epoch with one image a batch: three of the five images have nothing to localize.
    nothing = [x for x in losses.values() if x["loss_bin"] == x["loss_loc"] == 0]
    assert len(losses) == 5 and len(nothing) == expected
    assert all(0 < x["loss_cls"] < 10 for x in losses.values())


# Inference


def test_predictor(uninterrupted, tmp_path):
    final = str(uninterrupted.output_dir / "model_final.pth")
    cfg = load_config(ONE_X, [*uninterrupted.overrides, "MODEL.WEIGHTS", final])
    rng = np.random.default_rng(0)
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, rng.integers(0, 256, (100, 170, 3), dtype=np.uint8))
    image = cv2.imread(path)
    instances = DefaultPredictor(cfg)(image)["instances"]

    count = len(instances)
    assert 0 < count <= 100
    assert instances.image_size == (100, 170)
    shapes = {name: tuple(value.shape) for name, value in instances.get_fields().items()
              if name != "pred_boxes"}  # fmt: skip
    assert shapes == {
        "scores": (count,),
        "pred_classes": (count,),
        "cls_scores": (count,),
        "loc_scores": (count,),
        "border_scores": (count, 4),
    }
    boxes = instances.pred_boxes.tensor
    assert boxes.shape == (count, 4)
    assert (boxes >= 0).all() and (boxes <= torch.tensor([170, 100, 170, 100])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    # Rescaled to the image: it was resized to a longer side of 96.
    assert boxes[:, 2].max() > 96
    assert instances.pred_classes.dtype == torch.int64
    assert 0 <= instances.pred_classes.min() and instances.pred_classes.max() < len(CLASSES)
    assert (instances.scores[1:] <= instances.scores[:-1]).all()
    torch.testing.assert_close(instances.loc_scores, instances.border_scores.mean(1))
    torch.testing.assert_close(instances.scores, instances.cls_scores * instances.loc_scores)

    visualizer = Visualizer(image[:, :, ::-1], MetadataCatalog.get(VAL))
    drawn = visualizer.draw_instance_predictions(instances[:3]).get_image()
    assert drawn.shape == image.shape
    assert (drawn != image[:, :, ::-1]).any(2).mean() > 0.05


# Starting processes


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    write_coco(root)
    return root


def start(*command: str, datasets: Path, cwd: Path) -> subprocess.CompletedProcess:
    """A new Python. Detectron2 reads where the data sets are when it is imported, hence here."""
    env = os.environ | {
        "DETECTRON2_DATASETS": str(datasets),
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "ignore", *command]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def coco_overrides(output_dir: Path) -> list[str]:
    # Every detection counts, and every worker's.
    return [*TINY, "MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0", "OUTPUT_DIR", str(output_dir)]


@pytest.fixture(scope="module")
def one_worker(coco, tmp_path_factory) -> dict:
    """The metrics of two iterations on the made-up COCO, in this process."""
    output_dir = tmp_path_factory.mktemp("one_worker")
    files = {
        name: (coco / f"coco/annotations/instances_{split}2017.json", coco / f"coco/{split}2017")
        for name, split in ((TRAIN, "train"), (VAL, "val"))
    }
    with registered(files):
        names = ["DATASETS.TRAIN", f"('{TRAIN}',)", "DATASETS.TEST", f"('{VAL}',)"]
        run_job(ONE_X, *coco_overrides(output_dir), *names)
    return read_metrics(output_dir, 1)


def assert_is_the_run_of_one_worker(output_dir: Path, one_worker: dict) -> None:
    metrics = read_metrics(output_dir, 1)
    for name in ("loss_cls", "loss_bin", "loss_loc", "total_loss"):
        # The same sums, added up in another order.
        assert metrics[name] == pytest.approx(one_worker[name], rel=1e-4), name
    detections = json.loads((output_dir / "inference/coco_instances_results.json").read_text())
    assert {x["image_id"] for x in detections} == {1, 2, 3, 4}  # gathered from all workers
    assert (output_dir / "model_final.pth").is_file()


def test_two_workers_train_as_one_does(coco, one_worker, tmp_path):
    arguments = ["--config-file", f"configs/{ONE_X}", "--num-gpus", "2", "--dist-url", "auto"]
    done = start(str(SCRIPT), *arguments, *coco_overrides(tmp_path), datasets=coco, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No GPU found: running on the CPU." in done.stderr
    assert "by 2 workers on cpu" in done.stdout
    assert_is_the_run_of_one_worker(tmp_path, one_worker)


@pytest.mark.slow
def test_torchrun(coco, one_worker, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["--config-file", f"configs/{ONE_X}", *coco_overrides(tmp_path)]
    done = start(*torchrun, str(SCRIPT), *arguments, datasets=coco, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "by 2 workers on cpu" in done.stdout + done.stderr
    assert_is_the_run_of_one_worker(tmp_path, one_worker)


@pytest.mark.slow
def test_1x_config_starts_as_it_is(coco, tmp_path):
    output_dir = tmp_path / "output"
    overrides = [
        *TINY_IMAGES,
        *("MODEL.WEIGHTS", ""),
        *("SOLVER.MAX_ITER", "1"),
        *("SOLVER.IMS_PER_BATCH", "1"),
        *("OUTPUT_DIR", str(output_dir)),
    ]
    arguments = ["--config-file", f"configs/{ONE_X}", *overrides]
    done = start(str(SCRIPT), *arguments, datasets=coco, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0 < read_metrics(output_dir, 0)["total_loss"] < math.inf
    checkpoint = torch.load(output_dir / "model_final.pth", weights_only=True)
    assert len(checkpoint["class_names"]) == 80
    assert checkpoint["model"]["head.cls_score.weight"].shape == (80, 256, 3, 3)
    shutil.rmtree(output_dir)  # large


def test_too_many_workers(coco, tmp_path):
    output_dir = tmp_path / "output"
    arguments = ["--config-file", f"configs/{ONE_X}", "--num-gpus", "99"]
    done = start(str(SCRIPT), *arguments, *coco_overrides(output_dir), datasets=coco, cwd=tmp_path)
    assert done.returncode == 1
    cores = available_cores()
    assert done.stderr.splitlines()[-1] == (
        f"error: No GPU is used, so --num-gpus 99 would start 99 processes on {cores} cores; "
        f"use --num-gpus {cores} or fewer."
    )
    assert "Traceback" not in done.stderr + done.stdout
    assert not output_dir.exists()


def test_mistake_ends_the_program_with_its_sentence(data, tmp_path):
    overrides = mini_overrides(tmp_path / "output", "MODEL.SCOPENET.NUM_CLASSES", "4")
    with pytest.raises(SystemExit) as caught:
        cli.run("train", ["--config-file", ONE_X, *overrides])
    assert re.fullmatch(
        r"error: MODEL\.SCOPENET\.NUM_CLASSES is 4, but .* to 3\.", caught.value.code
    )
    assert not (tmp_path / "output").exists()
