"""Precision, recall and F1 against the score, and the threshold that is best for each class."""

import numpy as np
import pandas as pd


def threshold_curve(scores: np.ndarray, is_true: np.ndarray, num_truths: int) -> pd.DataFrame:
    """What is found when all detections from a score upwards are kept.

    Unlike in AP, precision is not interpolated: these are the figures that a threshold gives.

    Args:
        scores: (K,).
        is_true: (K,) bool, matched with a ground truth.
        num_truths: ground truths that could have been found.

    Returns:
        one row for each different score, from the highest: "threshold", "precision", "recall" and
        "f1", in [0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(is_true[order])
    last_of_its_score = np.append(scores[1:] != scores[:-1], [True] * (len(scores) > 0))
    kept = np.arange(1, len(scores) + 1)
    table = pd.DataFrame(
        {
            "threshold": scores,
            "precision": hits / kept,
            "recall": hits / max(num_truths, 1),
            "f1": 2 * hits / (kept + num_truths),
        }
    )
    return table[last_of_its_score.astype(bool)].reset_index(drop=True)


def curves(
    detections: pd.DataFrame, matched: pd.DataFrame, ground_truth: pd.DataFrame
) -> dict[int | str, pd.DataFrame]:
    """:func:`threshold_curve` of each class with ground truths, and of all together as "all".

    Args:
        matched: of :func:`~.coco_evaluation.matches`.
    """
    counted = detections.reset_index(drop=True).join(matched, how="inner")
    counted = counted[~counted.ignored]
    true = ground_truth[ground_truth.iscrowd == 0]
    groups = {k: (counted[counted.label == k], n) for k, n in true.label.value_counts().items()}
    groups["all"] = counted, len(true)
    return {
        k: threshold_curve(x.score.to_numpy(), (x.truth > 0).to_numpy(), n)
        for k, (x, n) in groups.items()
    }


def best_thresholds(of_class: dict[int | str, pd.DataFrame]) -> pd.DataFrame:
    """The row with the highest F1 of each curve; classes without detections are absent."""
    rows = {k: curve.loc[curve.f1.idxmax()] for k, curve in of_class.items() if len(curve)}
    columns = ["threshold", "precision", "recall", "f1"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
