"""AP by the size and by the aspect ratio of the objects."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .coco_evaluation import COCO_IOUS, Ranges, evaluate, mean_precision

# COCO's own, then finer; in px² of the image file, written as the side of a square.
COCO_SIZES: Ranges = {
    "all": (-math.inf, math.inf),
    "small": (-math.inf, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, math.inf),
}
SIZES: Ranges = {
    "< 16": (-math.inf, 16**2),
    "16–32": (16**2, 32**2),
    "32–64": (32**2, 64**2),
    "64–96": (64**2, 96**2),
    "96–192": (96**2, 192**2),
    "192–384": (192**2, 384**2),
    "≥ 384": (384**2, math.inf),
}
# Width over height.
ASPECTS: Ranges = {
    "< 1:3": (-math.inf, 1 / 3),
    "1:3–1:2": (1 / 3, 1 / 2),
    "1:2–3:4": (1 / 2, 3 / 4),
    "3:4–4:3": (3 / 4, 4 / 3),
    "4:3–2:1": (4 / 3, 2),
    "2:1–3:1": (2, 3),
    "≥ 3:1": (3, math.inf),
}


def count_objects(ground_truth: pd.DataFrame, ranges: Ranges, quantity: str) -> pd.Series:
    """How many ground truths lie in each range, crowds left out."""
    values = ground_truth.loc[ground_truth.iscrowd == 0, quantity]
    counts = {k: int(values.between(*v, inclusive="left").sum()) for k, v in ranges.items()}
    return pd.Series(counts, name="objects")


def summary(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, *, images: Sequence[int], num_classes: int
) -> pd.Series:
    """COCO's AP, AP50, AP75, APs, APm and APl in percent, and AP by :data:`SIZES`."""
    result = evaluate(
        ground_truth, detections, images=images, num_classes=num_classes, ranges=COCO_SIZES | SIZES
    )
    names = {"AP": "all", "APs": "small", "APm": "medium", "APl": "large"} | {k: k for k in SIZES}
    values = {k: mean_precision(result, name=v) for k, v in names.items()}
    values |= {f"AP{iou}": mean_precision(result, iou=iou / 100) for iou in (50, 75)}
    order = ["AP", "AP50", "AP75", "APs", "APm", "APl", *SIZES]
    return 100 * pd.Series(values)[order]


def ap_by_aspect(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, *, images: Sequence[int], num_classes: int
) -> pd.Series:
    """AP in percent by :data:`ASPECTS`."""
    result = evaluate(
        ground_truth,
        detections,
        images=images,
        num_classes=num_classes,
        iou_thresholds=COCO_IOUS,
        ranges=ASPECTS,
        quantity="aspect",
    )
    return 100 * pd.Series({name: mean_precision(result, name=name) for name in ASPECTS})


def occupied(counts: pd.Series) -> list[str]:
    """The ranges from the first to the last that holds objects."""
    (places,) = np.nonzero(counts.to_numpy())
    return list(counts.index[places.min() : places.max() + 1])
