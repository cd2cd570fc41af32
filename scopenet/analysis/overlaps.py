"""IoU of every detection with every ground truth of its image."""

import pandas as pd
import torch
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou

from .ground_truth import BOX


def overlaps(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> pd.DataFrame:
    """One row per pair of one image, crowds left out: ``detection`` (row number), ``truth`` (id),
    ``iou`` in [0, 1] and ``same_class``."""
    found = detections[["image", "label", *BOX]].assign(detection=range(len(detections)))
    true = ground_truth.loc[ground_truth.iscrowd == 0, ["image", "label", "id", *BOX]]
    pairs = found.merge(true, on="image", suffixes=("", "_true"))
    boxes, true_boxes = (
        Boxes(torch.tensor(pairs[columns].to_numpy(float)))
        for columns in (BOX, [f"{x}_true" for x in BOX])
    )
    return pd.DataFrame(
        {
            "detection": pairs.detection,
            "truth": pairs.id,
            "iou": matched_pairwise_iou(boxes, true_boxes).numpy().astype(float),
            "same_class": pairs.label == pairs.label_true,
        }
    )


def best_overlaps(pairs: pd.DataFrame, num_detections: int) -> pd.DataFrame:
    """Of each detection the ground truth that it overlaps most.

    Returns:
        ``truth`` and ``iou`` by row number of the detection; 0 where there is none.
    """
    pairs = pairs[pairs.iou > 0]
    best = pairs.loc[pairs.groupby("detection").iou.idxmax(), ["detection", "truth", "iou"]]
    return best.set_index("detection").reindex(range(num_detections), fill_value=0)
