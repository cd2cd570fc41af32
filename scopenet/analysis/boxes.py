"""Tables of boxes: their shapes, and the IoU of every detection with every ground truth."""

import numpy as np
import pandas as pd
import torch
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou

BOX = ["x0", "y0", "x1", "y1"]


def add_shape(boxes: pd.DataFrame) -> pd.DataFrame:
    """Add "aspect" (width over height) and, unless it is known, "area" in px²."""
    width, height = boxes.x1 - boxes.x0, boxes.y1 - boxes.y0
    area = boxes.area.fillna(width * height) if "area" in boxes else width * height
    return boxes.assign(area=area.astype(float), aspect=width / height.clip(lower=1e-6))


def overlaps(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> pd.DataFrame:
    """Compare each detection with each ground truth of its image, crowds left out.

    Returns:
        one row per pair: ``detection`` (row number), ``truth`` (id), ``iou`` in [0, 1] and
        ``same_class``.
    """
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
    """Find the ground truth that each detection overlaps most, among ``pairs``.

    Returns:
        ``truth`` and ``iou`` by row number of the detection; 0 where there is none.
    """
    pairs = pairs[pairs.iou > 0]
    best = pairs.loc[pairs.groupby("detection").iou.idxmax(), ["detection", "truth", "iou"]]
    return best.set_index("detection").reindex(range(num_detections), fill_value=0)


def true_ious(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> np.ndarray:
    """Measure the IoU of each detection with the best ground truth of its class, (K,) in [0, 1]."""
    pairs = overlaps(detections, ground_truth)
    return best_overlaps(pairs[pairs.same_class], len(detections)).iou.to_numpy(float)
