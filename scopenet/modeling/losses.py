"""The three losses (equation 4), each summed; the caller divides by the number of positives.

For the shape letters see :mod:`scopenet.modeling.bins`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LOC_LOSS_TYPES = ("iou", "linear_iou", "giou")


def _focal_terms(logits: Tensor, sign: int, gamma: float) -> Tensor:
    """(1 - p_t)^gamma (-ln p_t) with p_t = sigmoid(sign * logits)."""
    wrong = (-sign * logits).sigmoid()
    return wrong**gamma * F.softplus(-sign * logits)


def focal_loss(
    cls_logits: list[Tensor], positive_logits: Tensor, *, alpha: float, gamma: float
) -> Tensor:
    """Sigmoid focal loss (RetinaNet, https://arxiv.org/abs/1708.02002), summed.

    Every logit is first taken for a negative and the few positives are then corrected, so that no
    dense target is ever built.

    Args:
        cls_logits: L maps (B, C, H, W).
        positive_logits: the logits, among ``cls_logits``, of each positive location's class.
    """
    negatives = sum(_focal_terms(x, -1, gamma).sum() for x in cls_logits)
    as_positives = _focal_terms(positive_logits, +1, gamma).sum()
    as_negatives = _focal_terms(positive_logits, -1, gamma).sum()
    return (1 - alpha) * (negatives - as_negatives) + alpha * as_positives


def bin_loss(log_probs: Tensor, bins: Tensor) -> Tensor:
    """Cross entropy of the borders' true bins (P, 4) under ``log_probs`` (P, 4, N), mean over the
    four directions, summed over locations."""
    return -log_probs.gather(-1, bins[..., None]).sum() / 4


def iou_and_hull(pred: Tensor, gt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of two boxes around one location, given by distances (..., 4) > 0 in px.

    Returns:
        intersection, union and smallest enclosing box, each an area (...,) > 0 in px².
    """

    def area(d: Tensor) -> Tensor:
        return (d[..., 0] + d[..., 2]) * (d[..., 1] + d[..., 3])

    intersection = area(torch.minimum(pred, gt))
    return intersection, area(pred) + area(gt) - intersection, area(torch.maximum(pred, gt))


def localization_loss(pred: Tensor, gt: Tensor, loss_type: str) -> Tensor:
    """Loss of the boxes decoded from the target bins, summed over locations.

    Args:
        pred, gt: (P, 4) distances (l, t, r, b) > 0, px.
        loss_type: "iou" is -ln IoU, "linear_iou" 1 - IoU, "giou" 1 - GIoU.
    """
    intersection, union, hull = iou_and_hull(pred, gt)
    if loss_type == "iou":
        return (union.log() - intersection.log()).sum()
    loss = 1 - intersection / union
    if loss_type == "giou":
        loss = loss + (hull - union) / hull
    return loss.sum()
