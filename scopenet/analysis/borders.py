"""What a ScopeNet says of the borders of labelled boxes, at the positives of label assignment.

All px are px of the network input. For the shape letters see :mod:`scopenet.modeling.bins`.
"""

import pandas as pd
import torch
from detectron2.structures import Instances
from torch import Tensor

from ..modeling.bins import target_bins
from ..modeling.losses import iou_and_hull
from ..modeling.meta_arch import Predictions, ScopeNet

DIRECTIONS = ("l", "t", "r", "b")


def edge_distances(distances: Tensor, edges: Tensor) -> Tensor:
    """Measure how far each distance (P, 4), px, is from the nearest of the edges (P, N+1), px,
    between two of N > 1 bins, in log2 px.

    The outermost edges do not count: the first bin reaches down to 0 and the last one to infinity,
    so that nothing has to be decided there.
    """
    inner = edges[:, None, 1:-1].log2()
    return (distances.log2()[..., None] - inner).abs().amin(-1)


@torch.no_grad()
def border_tables(
    model: ScopeNet, predictions: Predictions, gt_instances: list[Instances]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the borders that a model with N > 1 bins predicts for a batch with the true ones.

    Returns:
        - borders, one row per positive and direction: ``level``; ``direction``, "l", "t", "r" or
          "b"; ``distance``, the true one in px, ``bin``, which holds it, and ``edge_distance``, see
          :func:`edge_distances`; ``best_bin``, the most probable one, and ``confidence``, its
          probability; ``log_variance``, log sigma^2, clamped; ``from_bin`` and ``from_best_bin``,
          px, decoded from the true bin and as inference does, and ``decoded_bin`` and
          ``decoded_best_bin``, the bins that hold these two;
        - positives, one row each: ``level``, and ``iou_bin`` and ``iou_best_bin``, the IoU of the
          boxes decoded from the true bins and as inference does with the ground truth.
    """
    positives = model.label_locations(predictions, gt_instances)
    borders = model.borders(predictions, gt_instances, positives)
    edges = model.bin_edges[positives.level].to(model.device)  # (P, N+1)
    confidence, best_bin = borders.log_probs.exp().max(-1)
    chosen = {"bin": borders.gt_bins, "best_bin": best_bin}
    from_best = borders.predict(model.decoding, best_bin)
    decoded = {"bin": borders.decode(borders.gt_bins), "best_bin": from_best}
    table = _table(
        level=positives.level[:, None].expand(-1, 4),
        distance=borders.gt_distances,
        edge_distance=edge_distances(borders.gt_distances, edges),
        confidence=confidence,
        log_variance=borders.log_variance,
        **chosen,
        **{f"from_{name}": x for name, x in decoded.items()},
        **{f"decoded_{name}": target_bins(x, edges) for name, x in decoded.items()},
    )
    ious = {f"iou_{name}": _iou(x, borders.gt_distances) for name, x in decoded.items()}
    directions = list(DIRECTIONS) * len(edges)
    return table.assign(direction=directions), _table(level=positives.level, **ious)


def _table(**columns: Tensor) -> pd.DataFrame:
    return pd.DataFrame({name: x.flatten().cpu().numpy() for name, x in columns.items()})


def _iou(distances: Tensor, gt_distances: Tensor) -> Tensor:
    intersection, union, _ = iou_and_hull(distances, gt_distances)
    return intersection / union
