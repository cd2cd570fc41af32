"""Which class is taken for which."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .coco_evaluation import evaluate, matches


def class_confusion(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    *,
    threshold: float,
    images: Sequence[int],
    num_classes: int,
) -> np.ndarray:
    """(C+1, C+1) counts of ground truths and detections, matched at IoU 0.5 whatever their class.

    Row is the true class and column the detected one; the last row holds detections of nothing (of
    the background, and duplicates) and the last column what was missed.

    Args:
        threshold: lower scores do not count.
    """
    kept = detections[detections.score >= threshold].reset_index(drop=True)
    result = evaluate(
        ground_truth,
        kept,
        images=images,
        num_classes=num_classes,
        iou_thresholds=[0.5],
        use_classes=False,
    )
    matched = matches(result)
    matched = matched[~matched.ignored]
    true = ground_truth[ground_truth.iscrowd == 0].set_index("id").label
    rows = matched.truth.map(true).fillna(num_classes).astype(int)
    columns = kept.label.reindex(matched.index)
    counts = np.zeros((num_classes + 1, num_classes + 1), int)
    np.add.at(counts, (rows.to_numpy(), columns.to_numpy()), 1)
    missed = true[~true.index.isin(matched.truth)]
    np.add.at(counts, (missed.to_numpy(), num_classes), 1)
    return counts


def largest_confusions(counts: np.ndarray, names: Sequence[str], limit: int) -> pd.DataFrame:
    """The most frequent pairs of two different classes: "true", "detected", "count"."""
    between = counts[:-1, :-1] * ~np.eye(len(counts) - 1, dtype=bool)
    true, detected = np.nonzero(between)
    table = pd.DataFrame(
        {
            "true": np.take(names, true),
            "detected": np.take(names, detected),
            "count": between[true, detected],
        }
    )
    return table.nlargest(limit, "count")
