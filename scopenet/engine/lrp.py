"""The optimal LRP error: false positives, misses and inexact boxes in one figure.

Oksuz et al., "One Metric to Measure them All: Localisation Recall Precision (LRP) for Evaluating
Visual Detection Tasks", https://arxiv.org/abs/2011.10772.
"""

import contextlib
import io
import math
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

TAU = 0.5  # the IoU from which on a detection is right


class OptimalLRP(NamedTuple):
    """Means over classes, in [0, 1], less is better; NaN where there is no ground truth."""

    error: float
    localization: float  # mean of 1 - IoU of what is right, at the same score thresholds


def optimal_lrp(ground_truth: COCO, detections: COCO) -> OptimalLRP:
    """Evaluate the boxes of ``detections``, the 100 best per image and class.

    Of every class, the score threshold is the one with the least error.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        coco_eval = COCOeval(ground_truth, detections, "bbox")
        parameters = coco_eval.params
        parameters.iouThrs, parameters.maxDets = np.array([TAU]), [100]
        parameters.areaRng, parameters.areaRngLbl = [[0, math.inf]], ["all"]
        coco_eval.evaluate()
    # COCOeval has all images of the first class, then those of the next one.
    number = len(parameters.imgIds)
    of_classes = (
        _of_class(coco_eval, [x for x in coco_eval.evalImgs[k * number : (k + 1) * number] if x])
        for k in range(len(parameters.catIds))
    )
    known = np.array([x for x in of_classes if x is not None]).reshape(-1, 2)
    # A class without a right detection has no localization error.
    columns = [x[~np.isnan(x)] for x in known.T]
    return OptimalLRP(*(float(x.mean()) if x.size else math.nan for x in columns))


def _of_class(coco_eval: COCOeval, images: list[dict]) -> tuple[float, float] | None:
    """Return oLRP and localization error of a class from what COCOeval says of the images with
    objects or detections of it; None without ground truth."""
    num_truths = sum(int((x["gtIgnore"] == 0).sum()) for x in images)
    if not num_truths:
        return None
    columns = [_detections(coco_eval, image) for image in images]
    scores, ious = (np.concatenate(x) for x in zip(*columns, strict=True))
    order = np.argsort(-scores, kind="stable")
    scores, ious = scores[order], ious[order]  # of wrong detections the IoU is 0
    is_right = ious > 0
    right, wrong = np.cumsum(is_right), np.cumsum(~is_right)
    inexact = np.cumsum(np.where(is_right, 1 - ious, 0.0))
    # Equation 3: all that is detected from a score upwards; N_FN is what is then not right.
    errors = (inexact / (1 - TAU) + wrong + num_truths - right) / (wrong + num_truths)
    errors[np.append(scores[1:] == scores[:-1], False)[: len(errors)]] = math.inf
    if not len(errors) or errors.min() >= 1:
        return 1.0, math.nan  # nothing is better detected than not at all
    best = errors.argmin()
    return float(errors[best]), float(inexact[best] / right[best])


def _detections(coco_eval: COCOeval, image: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of an image's detections of a class that count, and their IoUs with the
    objects that they were matched with, 0 where there is none."""
    counted = image["dtIgnore"][0] == 0
    ids = image["dtMatches"][0].astype(int)
    ious = np.zeros(len(ids))
    boxes = {x["id"]: x["bbox"] for x in coco_eval.cocoGt.imgToAnns[image["image_id"]]}
    for i in np.flatnonzero(ids):
        found = coco_eval.cocoDt.anns[image["dtIds"][i]]["bbox"]
        ious[i] = _iou(found, boxes[ids[i]])
    return np.array(image["dtScores"])[counted], ious[counted]


def _iou(a: list[float], b: list[float]) -> float:
    """Return the IoU of two boxes, x, y, width and height."""
    width, height = (
        max(0.0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1)
    )
    both = width * height
    return both / (a[2] * a[3] + b[2] * b[3] - both)
