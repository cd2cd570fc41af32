"""`compare_merging.py`: SAHI's merging as Instances, and AP of more than COCO's 100 boxes."""

import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from compare_merging import average_precisions, greedy_nmm, nms


def detections(*rows: tuple) -> Instances:
    """Boxes XYXY, scores and classes, in an image of 100 x 100 px."""
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return Instances(
        (100, 100),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes, dtype=torch.long),
    )


def test_pieces_of_a_class_become_one_box():
    found = detections(([0, 0, 20, 10], 0.9, 0), ([8, 0, 28, 10], 0.6, 0), ([0, 0, 20, 10], 0.5, 1))
    # 12 of 20 px: 0.6 of the smaller box, but an IoU of 12 / 28
    merged = greedy_nmm(found, None, metric="IOS")
    assert merged.pred_boxes.tensor.tolist() == [[0, 0, 28, 10], [0, 0, 20, 10]]
    assert merged.scores.tolist() == pytest.approx([0.9, 0.5])
    assert merged.pred_classes.tolist() == [0, 1]
    assert len(greedy_nmm(found, None, metric="IOU")) == len(nms(found, None)) == 3
    assert len(greedy_nmm(detections(), None, metric="IOS")) == 0


def test_every_box_of_a_large_image_counts():
    truth, boxes = COCO(), [[10 * (i % 20), 10 * (i // 20), 5, 5] for i in range(150)]
    about = {"image_id": 1, "category_id": 1}
    about_truth = about | {"area": 25, "iscrowd": 0}
    annotations = [{"id": i, "bbox": x, **about_truth} for i, x in enumerate(boxes, start=1)]
    one = [{"id": 1}]
    truth.dataset = {"images": one, "categories": one, "annotations": annotations}
    truth.createIndex()
    found = [{"bbox": x, "score": 0.5, **about} for x in boxes]
    assert average_precisions(truth, found) == pytest.approx((100, 100, 100))
    for x in found:
        x["bbox"] = [x["bbox"][0] + 1.5, *x["bbox"][1:]]  # an IoU of 3.5 / 6.5
    assert average_precisions(truth, found) == pytest.approx((10, 100, 0))
