"""Which images a detector does best and worst on."""

import numpy as np
import pandas as pd


def box_quality(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, matched: pd.DataFrame, ious: np.ndarray
) -> pd.DataFrame:
    """Panoptic quality of the boxes of each image with ground truths (Kirillov et al. 2019,
    https://arxiv.org/abs/1801.00868): sum of the IoUs of right detections, over their number plus
    half of the wrong ones and half of the missed ground truths.

    Args:
        detections: those above a threshold that suits the use.
        matched: of :func:`~.coco_evaluation.matches` for them.
        ious: see :func:`~.calibration.true_ious`, for them.

    Returns:
        by image, best first: ``quality`` in [0, 1], ``right``, ``wrong`` and ``missed``.
    """
    counted = detections.reset_index(drop=True).assign(iou=ious).join(matched, how="inner")
    counted = counted[~counted.ignored]
    is_right = counted.truth > 0
    true = ground_truth[ground_truth.iscrowd == 0]
    table = pd.DataFrame(
        {
            "right": counted[is_right].groupby("image").size(),
            "wrong": counted[~is_right].groupby("image").size(),
            "iou": counted[is_right].groupby("image").iou.sum(),
            "truths": true.groupby("image").size(),
        }
    ).fillna(0)
    table = table[table.truths > 0].astype({"right": int, "wrong": int, "truths": int})
    table["missed"] = table.truths - table.right
    table["quality"] = table.iou / (table.right + table.wrong / 2 + table.missed / 2)
    table = table.sort_values("quality", ascending=False, kind="stable")
    return table[["quality", "right", "wrong", "missed"]]
