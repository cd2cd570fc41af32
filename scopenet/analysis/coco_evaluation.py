"""COCO's own evaluation (pycocotools) of tables, with the ranges and scores that we choose."""

import contextlib
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .boxes import BOX

Ranges = Mapping[str, tuple[float, float]]  # name -> [low, high)
ALL: Ranges = {"all": (-math.inf, math.inf)}
COCO_IOUS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100  # per image, COCO's


def _coco(table: pd.DataFrame, images: Sequence[int], num_classes: int, quantity: str) -> COCO:
    """Convert ``table`` for pycocotools, with ``quantity`` in the place of the area, the one
    property of a box by which COCOeval can restrict what counts."""
    x0, y0, x1, y1 = table[BOX].to_numpy(float).T
    columns = {
        "id": range(1, len(table) + 1),
        "image_id": table.image,
        "category_id": table.label + 1,
        "bbox": np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).tolist(),
        "area": table[quantity],
        "iscrowd": table["iscrowd"] if "iscrowd" in table else 0,
        "score": table["score"] if "score" in table else 1.0,
    }
    coco = COCO()
    coco.dataset = {
        "images": [{"id": x} for x in images],
        "categories": [{"id": k + 1} for k in range(num_classes)],
        "annotations": pd.DataFrame(columns).to_dict("records"),
    }
    coco.createIndex()
    return coco


def evaluate(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    *,
    images: Sequence[int],
    num_classes: int,
    score: str = "score",
    iou_thresholds: Sequence[float] = COCO_IOUS,
    ranges: Ranges = ALL,
    quantity: str = "area",
    use_classes: bool = True,
) -> COCOeval:
    """Evaluate and accumulate a ``COCOeval``.

    Args:
        ground_truth, detections: see :mod:`scopenet.analysis`. Their ids in the result are their
            row numbers, from 1.
        images: ids of all images that count, also those without boxes.
        score: the column of ``detections`` they are ranked by.
        ranges: which ground truths count; those outside are ignored, and so are detections outside
            that match none of those inside.
        quantity: the column of both tables that ``ranges`` speaks of.
        use_classes: match detections with ground truths of their class only.
    """
    detections = detections.assign(score=detections[score])
    with contextlib.redirect_stdout(io.StringIO()):
        true = _coco(ground_truth, images, num_classes, quantity)
        found = _coco(detections, images, num_classes, quantity)
        coco_eval = COCOeval(true, found, "bbox")
        parameters = coco_eval.params
        parameters.iouThrs = np.asarray(iou_thresholds, float)
        parameters.maxDets = [MAX_DETECTIONS]
        parameters.areaRngLbl = list(ranges)
        # COCOeval takes both ends as inside.
        parameters.areaRng = [[low, np.nextafter(high, -math.inf)] for low, high in ranges.values()]
        parameters.useCats = int(use_classes)
        coco_eval.evaluate()
        coco_eval.accumulate()
    return coco_eval


def mean_precision(
    coco_eval: COCOeval, *, name: str = "all", iou: float | None = None, recall: float | None = None
) -> float:
    """Average the interpolated precision, in [0, 1], over the classes that have ground truths.

    Args:
        name: of the range.
        iou: one of the evaluated thresholds; None is the mean over all of them.
        recall: None is the mean over COCO's 101 recalls, that is AP; else that of 0, 0.01, ... 1
            which is nearest.

    Returns:
        NaN without ground truths in the range.
    """
    parameters = coco_eval.params
    precision = coco_eval.eval["precision"][..., parameters.areaRngLbl.index(name), 0]  # (T, R, C)
    if iou is not None:
        precision = precision[np.isclose(parameters.iouThrs, iou)]
    if recall is not None:
        precision = precision[:, [np.abs(parameters.recThrs - recall).argmin()]]
    known = precision[precision > -1]
    return float(known.mean()) if known.size else math.nan


def matches(coco_eval: COCOeval) -> pd.DataFrame:
    """Return COCO's assignment of detections to ground truths, at the first of the IoU thresholds
    and over the first of the ranges.

    Returns:
        for each detection, by row number: ``truth``, the id of its ground truth or 0, and
        ``ignored``, whether it counts neither as right nor as wrong (crowds). Detections beyond the
        100 best of an image and class are absent.
    """
    first_range = coco_eval.params.areaRng[0]
    images = [x for x in coco_eval.evalImgs if x is not None and x["aRng"] == first_range]
    columns = {
        "detection": np.concatenate([[], *(x["dtIds"] for x in images)]).astype(int) - 1,
        "truth": np.concatenate([[], *(x["dtMatches"][0] for x in images)]).astype(int),
        "ignored": np.concatenate([[], *(x["dtIgnore"][0] for x in images)]).astype(bool),
    }
    return pd.DataFrame(columns).set_index("detection").sort_index()
