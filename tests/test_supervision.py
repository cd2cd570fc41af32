"""supervision's Detections of what a detector finds, with PyTorch and without."""

import sys

import numpy as np
import pytest
import supervision
import torch
from detectron2.structures import Boxes, Instances
from test_runtime import HIDE, run_python, write_toy
from zoos import refusal

from scopenet.runtime import to_supervision
from scopenet.runtime.predictor import ArrayInstances

NAMES = ["red", "green", "blue"]
FIELDS = {
    "pred_boxes": np.float32([[0, 0, 10, 20], [5, 5, 8, 9]]),
    "scores": np.float32([0.75, 0.5]),
    "pred_classes": np.int64([2, 0]),
    "cls_scores": np.float32([0.875, 1]),
    "loc_scores": np.float32([0.5, 0.25]),
    "border_scores": np.float32([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]),
}


def arrays(kept: slice = slice(None)) -> dict:
    return {"instances": ArrayInstances((30, 40), **{k: x[kept] for k, x in FIELDS.items()})}


def tensors(kept: slice = slice(None)) -> dict:
    fields = {k: torch.from_numpy(x[kept]) for k, x in FIELDS.items()}
    return {
        "instances": Instances((30, 40), **fields | {"pred_boxes": Boxes(fields["pred_boxes"])})
    }


def test_supervision_reads_what_is_found_with_pytorch():
    theirs = supervision.Detections.from_detectron2(tensors())
    ours = to_supervision(tensors())
    ours.data.clear()
    assert ours == theirs and theirs.xyxy.tolist() == [[0, 0, 10, 20], [5, 5, 8, 9]]
    assert theirs.class_id.tolist() == [2, 0] and theirs.confidence.tolist() == [0.75, 0.5]


@pytest.mark.parametrize("make", [arrays, tensors])
def test_with_names_and_scores(make):
    found = to_supervision(make(), NAMES)
    assert found.xyxy.tolist() == [[0, 0, 10, 20], [5, 5, 8, 9]]
    assert found.confidence.tolist() == [0.75, 0.5] and found.class_id.tolist() == [2, 0]
    expected = {"cls_scores", "loc_scores", "border_scores", "class_name"}
    assert found.data.keys() == expected and found["class_name"].tolist() == ["blue", "red"]
    sure = found[found["border_scores"].min(1) > 0.45]
    assert sure.class_id.tolist() == [0] and sure["loc_scores"].tolist() == [0.25]
    none = to_supervision(make(slice(0)), NAMES)
    assert len(none) == 0 and none.xyxy.shape == (0, 4) and len(none["class_name"]) == 0
    assert "class_name" not in to_supervision(make()).data


def test_learned_errors_are_kept():
    stds = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = to_supervision({"instances": ArrayInstances((30, 40), **FIELDS, border_stds=stds)})
    assert found["border_stds"].tolist() == stds.tolist()


def test_an_exported_model_without_pytorch(tmp_path):
    hidden = ["torch", "torchvision", "detectron2", "omegaconf", "yacs", "pycocotools"]
    program = (
        f"HIDDEN = {hidden}\n{HIDE}"
        + """
import numpy as np
from scopenet import Detector
from scopenet.runtime import to_supervision
detector = Detector.load(sys.argv[1])
found = detector(np.full((100, 50, 3), 255, np.uint8))
x = to_supervision(found, detector.class_names)
print(type(found["instances"]).__name__, x.xyxy.tolist(), x.confidence, x.class_id, x["class_name"])
"""
    )
    done = run_python(program, str(write_toy(tmp_path / "toy.onnx")))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ArrayInstances [[0.0, 0.0, 50.0, 100.0]] [1.] [2] ['blue']\n"


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    assert 'pip install "scopenet[supervision]"' in refusal(to_supervision, arrays())
