"""Does a score say how good a box is? Equation 3's p_cls, p_loc and p_box against the true IoU."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binned_statistic, spearmanr

from .coco_evaluation import evaluate, mean_precision
from .overlaps import best_overlaps, overlaps

RECALLS = (0.5, 0.7, 0.9)
FOUND_IOU = 0.5  # from here on a detection is about an object at all
STRICT_IOU = 0.75  # AP75


def true_ious(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> np.ndarray:
    """IoU of each detection with the best ground truth of its class, (K,) in [0, 1]."""
    pairs = overlaps(detections, ground_truth)
    return best_overlaps(pairs[pairs.same_class], len(detections)).iou.to_numpy(float)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's in [-1, 1]; NaN for fewer than three samples or a constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(spearmanr(x, y).statistic)


def score_quality(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    ious: np.ndarray,
    scores: Sequence[str],
    **options,
) -> pd.DataFrame:
    """How well each score ranks the same detections.

    Args:
        ious: see :func:`true_ious`.
        scores: columns of ``detections``.
        options: ``images`` and ``num_classes`` of :func:`~.coco_evaluation.evaluate`.

    Returns:
        by score: "rank correlation" over all detections, "of those found" over those with an IoU of
        at least 0.5, "AP75", and "P@R" for each of ``RECALLS``, the precision at that recall for
        IoU 0.75; the last four in percent.
    """
    found = ious >= FOUND_IOU
    rows = {}
    for name in scores:
        values = detections[name].to_numpy()
        strict = evaluate(
            ground_truth, detections, score=name, iou_thresholds=[STRICT_IOU], **options
        )
        rows[name] = {
            "rank correlation": rank_correlation(values, ious),
            "of those found": rank_correlation(values[found], ious[found]),
            "AP75": 100 * mean_precision(strict),
        } | {f"P@R {r}": 100 * mean_precision(strict, recall=r) for r in RECALLS}
    return pd.DataFrame.from_dict(rows, orient="index")


def binned_mean(
    x: np.ndarray, y: np.ndarray, edges: np.ndarray, *, min_samples: int = 5
) -> pd.DataFrame:
    """Mean of y where x is in [edges[i], edges[i+1]), the last bin closed.

    Returns:
        "x", the middle of each bin with at least ``min_samples``, "mean", "std" and "count".
    """
    columns = {name: binned_statistic(x, y, name, edges).statistic if len(x) else edges[1:] * 0.0
               for name in ("mean", "std", "count")}  # fmt: skip
    table = pd.DataFrame({"x": (edges[:-1] + edges[1:]) / 2} | columns)
    return table[table["count"] >= min_samples].reset_index(drop=True)
