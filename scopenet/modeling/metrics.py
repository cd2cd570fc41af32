"""What is worth watching of a training run beside its losses (no gradient flows here)."""

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor

from .losses import iou_and_hull


def mean_iou(pred: Tensor, gt: Tensor) -> Tensor:
    """Mean IoU of boxes around common locations, given by distances (P, 4) in px."""
    intersection, union, _ = iou_and_hull(pred, gt)
    return (intersection / union).mean()


def localization_metrics(
    log_probs: Tensor,
    bins: Tensor,
    distances: Tensor,
    best_distances: Tensor,
    gt_distances: Tensor,
    log_variance: Tensor | None,
) -> dict[str, Tensor]:
    """Bin accuracy, and the mean IoU of boxes from the target bins and from the best bins: their
    gap is what choosing bins costs.

    Args:
        log_probs: (P, 4, N).
        bins: (P, 4) target bins.
        distances, best_distances, gt_distances: (P, 4) px, decoded from the target bins and from
            the most probable ones, and true.
        log_variance: (P, 4) log sigma^2, or None.

    Returns:
        nothing without positives.
    """
    if len(bins) == 0:
        return {}
    metrics = {
        "bin_accuracy": (log_probs.argmax(-1) == bins).float().mean(),
        "iou_target_bin": mean_iou(distances, gt_distances),
        "iou_best_bin": mean_iou(best_distances, gt_distances),
    }
    if log_variance is not None:
        metrics["log_variance"] = log_variance.mean()
    return metrics


def log_metrics(metrics: dict[str, Tensor]) -> None:
    """Into Detectron2's event storage, with a single copy from the device."""
    values = torch.stack(list(metrics.values())).tolist()
    get_event_storage().put_scalars(**dict(zip(metrics, values, strict=True)))
