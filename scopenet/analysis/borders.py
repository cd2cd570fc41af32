"""What a ScopeNet says of the borders of labelled boxes, at the positives of label assignment.

All px are px of the network input. For the shape letters see :mod:`scopenet.modeling.bins`.
"""

from typing import NamedTuple

import pandas as pd
import torch
from detectron2.structures import Instances
from torch import Tensor

from ..modeling import ScopeNet, bins
from ..modeling.assignment import Positives, border_distances
from ..modeling.head import split_bin_logits
from ..modeling.losses import iou_and_hull

DIRECTIONS = ("l", "t", "r", "b")


class Borders(NamedTuple):
    """What the network predicts for P positives, and what is true."""

    level: Tensor  # (P,)
    distance: Tensor  # (P, 4) px, true
    bin: Tensor  # (P, 4) the bin that holds the true distance
    best_bin: Tensor  # (P, 4) the most probable bin
    confidence: Tensor  # (P, 4) its probability
    log_variance: Tensor  # (P, 4) log sigma^2, clamped
    from_bin: Tensor  # (P, 4) px, decoded from the true bin
    from_best_bin: Tensor  # (P, 4) px, decoded from the most probable bin


@torch.no_grad()
def predict_borders(
    model: ScopeNet,
    predictions: tuple[list[Tensor], list[Tensor], list[Tensor]],
    gt_instances: list[Instances],
) -> Borders:
    """
    Args:
        predictions: the head's raw outputs for a batch.
        gt_instances: with ``gt_boxes`` in px of the network input.
    """
    positives: Positives = model.label_locations(predictions, gt_instances)
    boxes = torch.cat([x.gt_boxes.tensor for x in gt_instances])[positives.box]
    distance = border_distances(positives.centers(model.level_strides), boxes)
    true_bin = bins.target_bins(distance, model.bin_edges[positives.level])

    _, bin_maps, delta_maps = predictions
    logits, log_variance = split_bin_logits(positives.gather(bin_maps).float(), model.num_bins)
    log_variance = log_variance.clamp(*bins.LOG_VARIANCE_RANGE)
    log_probs = bins.bin_log_probs(logits, log_variance if model.uncertainty else None)
    confidence, best_bin = log_probs.exp().max(-1)
    deltas = positives.gather(delta_maps).float().unflatten(1, (4, model.num_bins))
    deltas = deltas.clamp(*bins.DELTA_RANGE)
    anchors = model.log2_anchors[positives.level]
    return Borders(
        level=positives.level,
        distance=distance,
        bin=true_bin,
        best_bin=best_bin,
        confidence=confidence,
        log_variance=log_variance,
        from_bin=bins.decode_bins(anchors, deltas, true_bin),
        from_best_bin=bins.decode_bins(anchors, deltas, best_bin),
    )


def edge_distances(distances: Tensor, edges: Tensor) -> Tensor:
    """How far each distance (P, 4), px, is from the nearest edge between two bins, in log2 px.

    The outermost edges do not count: the first bin reaches down to 0 and the last one to infinity,
    so that nothing has to be decided there.

    Args:
        edges: (P, N+1) px, N > 1.
    """
    inner = edges[:, None, 1:-1].log2()
    return (distances.log2()[..., None] - inner).abs().amin(-1)


def borders_table(borders: Borders, edges: Tensor) -> pd.DataFrame:
    """One row per positive and direction: the fields of :class:`Borders`, and

    - ``direction``: "l", "t", "r" or "b";
    - ``edge_distance``: see :func:`edge_distances`;
    - ``decoded_bin``, ``decoded_best_bin``: the bins that hold the two decoded distances.

    Args:
        edges: (L, N+1) px, N > 1.
    """
    edges = edges[borders.level]
    columns = borders._asdict() | {
        "level": borders.level[:, None].expand(-1, 4),
        "edge_distance": edge_distances(borders.distance, edges),
        "decoded_bin": bins.target_bins(borders.from_bin, edges),
        "decoded_best_bin": bins.target_bins(borders.from_best_bin, edges),
    }
    table = pd.DataFrame({name: x.flatten().cpu().numpy() for name, x in columns.items()})
    return table.assign(direction=list(DIRECTIONS) * len(borders.level))


def positives_table(borders: Borders) -> pd.DataFrame:
    """One row per positive: its ``level``, and ``iou_bin`` and ``iou_best_bin``, the IoU of the
    boxes decoded from the true and from the most probable bins with the ground truth."""
    columns = {"level": borders.level}
    for name, decoded in (("iou_bin", borders.from_bin), ("iou_best_bin", borders.from_best_bin)):
        intersection, union, _ = iou_and_hull(decoded, borders.distance)
        columns[name] = intersection / union
    return pd.DataFrame({name: x.cpu().numpy() for name, x in columns.items()})
