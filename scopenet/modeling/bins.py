"""Bins of the four border distances and their anchors (section 3.1, equations 1 and 2).

Shape letters of the package: B images, L levels, H x W cells of a level, R locations of one image
over all levels, M boxes, C classes, N bins per direction, P positive locations, K detections.
Directions are ordered (left, top, right, bottom); distances and edges are pixels of the network
input.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Bounds of the two exponents of the network. e^t scales an anchor: the upper bound is the one of
# Detectron2's box regression, the lower one keeps every decoded box non-empty.
DELTA_RANGE = (-10.0, math.log(1000.0 / 16))
LOG_VARIANCE_RANGE = (-8.0, 8.0)


def level_ranges(level_boundaries: Sequence[float]) -> list[tuple[float, float]]:
    """The half-open range [lo, hi) of the largest distance that each level regresses, in px."""
    bounds = [0.0, *map(float, level_boundaries), math.inf]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def bin_edges(
    level_boundaries: Sequence[float], strides: Sequence[int], num_bins: int, bin_size: float
) -> Tensor:
    """Nominal bin edges b_1 ... b_{N+1} of every level, in px.

    The last edge is the upper end of the level's range (twice the lower end where that is
    infinite, 8 strides for a single level); below it, edges are ``2^bin_size`` apart.

    Args:
        level_boundaries: the L - 1 finite ends of the levels' ranges, ascending, in px.
        strides: px, one per level.

    Returns:
        (L, N+1) float32, ascending along each row.
    """
    rows = []
    for (lo, hi), stride in zip(level_ranges(level_boundaries), strides, strict=True):
        top = hi if math.isfinite(hi) else 2 * lo or 8.0 * stride
        rows.append([top * 2 ** (-bin_size * n) for n in range(num_bins, -1, -1)])
    return torch.tensor(rows)


def anchor_start(edges: Tensor, bin_size: float) -> Tensor:
    """Start of the learned anchors: the geometric centre of each nominal bin.

    Args:
        edges: (L, N+1) px, see :func:`bin_edges`.

    Returns:
        (L, N) log2 px.
    """
    return edges[:, :-1].log2() + bin_size / 2


def target_bins(distances: Tensor, edges: Tensor) -> Tensor:
    """The bin [b_n, b_{n+1}) that holds each distance; the outer bins reach to 0 and infinity.

    Args:
        distances: (P, 4) positive px.
        edges: (P, N+1) px, the edges of each location's level.

    Returns:
        (P, 4) int64 in [0, N).
    """
    inner_edges = edges[:, None, 1:-1]  # (P, 1, N-1)
    return (distances[..., None] >= inner_edges).sum(-1)


def clamp_passing_gradient(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """``x.clamp(*bounds)`` with the gradient of ``x``: a value that overshot can come back."""
    # The sum with an exact zero gives the bound itself; x + (clamp(x) - x) would round at |x|.
    return x.clamp(*bounds).detach() + (x - x.detach())


def bin_log_probs(bin_logits: Tensor, log_variance: Tensor | None) -> Tensor:
    """Log of the bin probabilities p_{x,n}, the softmax at temperature sigma^2 (equation 2).

    Args:
        bin_logits: (..., N).
        log_variance: (...), log sigma^2, already clamped; None is sigma^2 = 1.
    """
    if log_variance is not None:
        bin_logits = bin_logits * torch.exp(-log_variance)[..., None]
    return F.log_softmax(bin_logits, dim=-1)


def decode_distances(log2_anchors: Tensor, deltas: Tensor) -> Tensor:
    """d = 2^a e^t (equation 1), in px.

    Args:
        log2_anchors: log2 px, of the shape of ``deltas``.
        deltas: t, already clamped to ``DELTA_RANGE``.
    """
    return torch.exp2(log2_anchors) * torch.exp(deltas)
