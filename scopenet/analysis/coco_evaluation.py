"""COCO's own evaluation (pycocotools) of tables, with the ranges and scores that we choose."""

import contextlib
import io
import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .dataset import BOX, Dataset

Ranges = dict[str, tuple[float, float]]  # name -> [low, high)
ALL: Ranges = {"all": (-math.inf, math.inf)}
COCO_IOUS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100  # per image, COCO's


def _coco(table: pd.DataFrame, dataset: Dataset, quantity: str) -> COCO:
    """Convert ``table`` for pycocotools, with ``quantity`` in the place of the area, the one
    property of a box by which COCOeval can restrict what counts."""
    boxes = table[BOX].to_numpy(float, copy=True)
    boxes[:, 2:] -= boxes[:, :2]
    missing = {"id": range(1, len(table) + 1), "iscrowd": 0, "score": 1.0}
    columns = {name: table.get(name, x) for name, x in missing.items()}
    columns |= {"image_id": table.image, "category_id": table.label + 1}
    columns |= {"bbox": boxes.tolist(), "area": table[quantity]}
    coco = COCO()
    coco.dataset = {
        "images": [{"id": x["image_id"]} for x in dataset.dicts],
        "categories": [{"id": k + 1} for k in range(len(dataset.class_names))],
        "annotations": pd.DataFrame(columns).to_dict("records"),
    }
    coco.createIndex()
    return coco


def evaluate(
    dataset: Dataset,
    detections: pd.DataFrame,
    *,
    iou_thresholds: ArrayLike = COCO_IOUS,
    ranges: Ranges = ALL,
    quantity: str = "area",
    use_classes: bool = True,
) -> COCOeval:
    """Evaluate and accumulate a ``COCOeval``; detections have their row numbers from 1 as ids.

    Args:
        ranges: which ground truths count; those outside are ignored, and so are detections outside
            that match none of those inside.
        quantity: the column of both tables that ``ranges`` speaks of.
        use_classes: match detections with ground truths of their class only.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        true = _coco(dataset.ground_truth, dataset, quantity)
        coco_eval = COCOeval(true, _coco(detections, dataset, quantity), "bbox")
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
    """Average the interpolated precision, in [0, 1], over the classes that have ground truths in
    the range ``name``; NaN if none has.

    Args:
        iou: one of the evaluated thresholds; None is the mean over all of them.
        recall: the nearest of 0, 0.01, ... 1; None is the mean over all of them, that is AP.
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
    and over the first of the ranges, by row number of the detection: ``truth``, the id of its
    ground truth or 0, and ``ignored``, whether it counts neither as right nor as wrong (crowds).
    Detections beyond the 100 best of an image and class are absent."""
    first_range = coco_eval.params.areaRng[0]
    images = [x for x in coco_eval.evalImgs if x is not None and x["aRng"] == first_range]
    columns = {
        "detection": np.concatenate([[], *(x["dtIds"] for x in images)]).astype(int) - 1,
        "truth": np.concatenate([[], *(x["dtMatches"][0] for x in images)]).astype(int),
        "ignored": np.concatenate([[], *(x["dtIgnore"][0] for x in images)]).astype(bool),
    }
    return pd.DataFrame(columns).set_index("detection").sort_index()
