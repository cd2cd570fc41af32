"""The three losses (equation 4), each summed; the caller divides by the number of positives.

For the shape letters see :mod:`scopenet.modeling.bins`.
"""

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LOC_LOSS_TYPES = ("iou", "linear_iou", "giou")
_CACHED = 2**18  # values


def _softplus(x: Tensor) -> Tensor:
    """Compute log(1 + e^x), several times as fast as PyTorch's, whose log1p is slow on CPUs; the
    absolute error of either is some 1e-7."""
    return x.relu() - x.abs().sigmoid_().log_()


class _NegativesLoss(torch.autograd.Function):
    """Sums p^gamma (-ln(1 - p)), p = sigmoid(logits), with no more memory than for the gradient."""

    @staticmethod
    def forward(ctx, logits: Tensor, gamma: float) -> Tensor:
        # On a CPU in pieces that stay in its caches.
        size, height = logits.numel(), logits.shape[2]
        rows = max(1, height * _CACHED // max(size, 1)) if logits.device.type == "cpu" else height
        gradient, one, loss = torch.empty_like(logits), logits.new_ones(1, 1, 1, 1), 0.0
        for x, grad_x in zip(logits.split(rows, 2), gradient.split(rows, 2), strict=True):
            p, nll = x.sigmoid(), _softplus(x)
            weight = p**gamma
            loss = loss + (weight * nll).sum()
            # The derivative is p^gamma (gamma (1 - p) nll + p), and (1 - p) y + p = lerp(y, 1, p).
            torch.lerp(nll.mul_(gamma), one, p, out=grad_x).mul_(weight)
        ctx.save_for_backward(gradient)
        return loss  # type: ignore[return-value]  # there is a piece

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss: Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss, None


def _focal_terms(logits: Tensor, sign: int, gamma: float) -> Tensor:
    """Compute (1 - p_t)^gamma (-ln p_t) with p_t = sigmoid(sign * logits)."""
    wrong = (-sign * logits).sigmoid().clamp(min=1e-30)  # 0 would make a small gamma's gradient NaN
    return wrong**gamma * F.softplus(-sign * logits)


def focal_loss(
    cls_logits: list[Tensor], positive_logits: Tensor, *, alpha: float, gamma: float
) -> Tensor:
    """Sum the sigmoid focal loss (RetinaNet, https://arxiv.org/abs/1708.02002).

    Every logit is first taken for a negative and the few positives are then corrected, so that no
    dense target is ever built.

    Args:
        cls_logits: L maps (B, C, H, W).
        positive_logits: the logits, among ``cls_logits``, of each positive location's class.
        alpha: weight of the positives, 1 - alpha of the negatives; negative for no weights.
    """
    negatives = sum(_NegativesLoss.apply(x, gamma) for x in cls_logits)
    as_positives = _focal_terms(positive_logits, +1, gamma).sum()
    as_negatives = _focal_terms(positive_logits, -1, gamma).sum()
    weight_neg, weight_pos = (1 - alpha, alpha) if alpha >= 0 else (1, 1)
    return weight_neg * (negatives - as_negatives) + weight_pos * as_positives


def mean_over_workers(counts: Tensor) -> Tensor:
    """Return max(sum over workers, 1) / number of workers: the divisor that makes the averaged
    gradient of N workers that of one big batch. To be called by all workers alike."""
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(counts)
    return counts.clamp(min=1) / comm.get_world_size()


def bin_loss(log_probs: Tensor, bins: Tensor) -> Tensor:
    """Sum over locations the cross entropy of the borders' true bins (P, 4) under ``log_probs``
    (P, 4, N), the mean over the four directions."""
    return -log_probs.gather(-1, bins[..., None]).sum() / 4


def iou_and_hull(pred: Tensor, gt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the areas (...,) > 0 in px² of the intersection, the union and the smallest enclosing
    box of two boxes around one location, which are given by distances (..., 4) > 0 in px."""

    def area(d: Tensor) -> Tensor:
        return (d[..., 0] + d[..., 2]) * (d[..., 1] + d[..., 3])

    intersection = area(torch.minimum(pred, gt))
    return intersection, area(pred) + area(gt) - intersection, area(torch.maximum(pred, gt))


def localization_loss(pred: Tensor, gt: Tensor, loss_type: str) -> Tensor:
    """Sum the loss of the boxes decoded from the target bins over locations.

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
