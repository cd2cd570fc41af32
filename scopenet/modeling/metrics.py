"""What is worth watching of a training run beside its losses (no gradient flows here)."""

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor

from .bins import Borders
from .losses import iou_and_hull


def mean_iou(pred: Tensor, gt: Tensor) -> Tensor:
    """Average the IoU of boxes around common locations, given by distances (P, 4) in px."""
    intersection, union, _ = iou_and_hull(pred, gt)
    return (intersection / union).mean()


def localization_metrics(
    borders: Borders, *, decoding: str, has_variance: bool
) -> dict[str, Tensor]:
    """Measure bin accuracy, and the mean IoU of boxes from the target bins and as inference finds
    them, from the best bins or ("iou_expectation") from all: their gap is what choosing costs.

    Args:
        decoding: one of :data:`~scopenet.modeling.bins.DECODINGS`.
        has_variance: sigma^2 is in use, and its mean logarithm worth a look.

    Returns:
        nothing without positives.
    """
    if len(borders.gt_bins) == 0:
        return {}
    best_bins = borders.log_probs.argmax(-1)
    metrics = {
        "bin_accuracy": (best_bins == borders.gt_bins).float().mean(),
        "iou_target_bin": mean_iou(borders.decode(borders.gt_bins), borders.gt_distances),
        f"iou_{decoding}": mean_iou(borders.predict(decoding, best_bins), borders.gt_distances),
    }
    if has_variance:
        metrics["log_variance"] = borders.log_variance.mean()
    return metrics


def log_metrics(metrics: dict[str, Tensor]) -> None:
    """Put metrics into Detectron2's event storage, with a single copy from the device."""
    values = torch.stack(list(metrics.values())).tolist() if metrics else []
    get_event_storage().put_scalars(**dict(zip(metrics, values, strict=True)))
