"""Bins of the four border distances and their anchors (section 3.1, equations 1 and 2).

Shape letters of the package: B images, L levels, H x W cells of a level, R locations of one image
over all levels, M boxes, C classes, N bins per direction, P positive locations, K detections.
Directions are ordered (left, top, right, bottom); distances and edges are pixels of the network
input.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .border_errors import error_loss, error_scales

# How a border comes from its bins: that of the most probable one (the paper), or the expectation.
DECODINGS = ("best_bin", "expectation")
# Bounds of the two exponents of the network. e^t scales an anchor: the upper bound is the one of
# Detectron2's box regression, the lower one keeps every decoded box non-empty.
DELTA_RANGE = (-10.0, math.log(1000.0 / 16))
LOG_VARIANCE_RANGE = (-8.0, 8.0)


def level_ranges(level_boundaries: Sequence[float]) -> list[tuple[float, float]]:
    """Return the half-open range [lo, hi) of the largest border distance that each level regresses,
    px, from the L - 1 finite ends; raise a ValueError if those are not positive and rising."""
    ends = [0.0, *map(float, level_boundaries), math.inf]
    if ends != sorted(set(ends)):
        raise ValueError(f"LEVEL_BOUNDARIES must be positive and rise, got {level_boundaries}")
    return list(pairwise(ends))


def bin_edges(
    level_boundaries: Sequence[float], strides: Sequence[int], num_bins: int, bin_size: float
) -> Tensor:
    """Return the nominal bin edges b_1 ... b_{N+1} of every level, in px.

    The last edge is the upper end of the level's range (twice the lower end where that is
    infinite, 8 strides for a single level); below it, neighbours have the ratio ``2^bin_size``.

    Returns:
        (L, N+1) float32, ascending along each row.

    Raises:
        ValueError: the boundaries do not fit the number of levels, or there are no bins.
    """
    ranges = level_ranges(level_boundaries)
    if len(ranges) != len(strides):
        needed = len(strides) - 1
        raise ValueError(f"{needed + 1} levels need {needed} LEVEL_BOUNDARIES: {level_boundaries}")
    if num_bins < 1 or bin_size <= 0:
        raise ValueError(f"NUM_BINS and BIN_SIZE must be positive, got {num_bins} and {bin_size}")
    rows = []
    for (lo, hi), stride in zip(ranges, strides, strict=True):
        top = hi if math.isfinite(hi) else 2 * lo or 8.0 * stride
        rows.append([top * 2 ** (-bin_size * n) for n in range(num_bins, -1, -1)])
    return torch.tensor(rows)


def anchor_start(edges: Tensor, bin_size: float) -> Tensor:
    """Return the start of the anchors, the geometric centres of the bins, (L, N) log2 px."""
    return edges[:, :-1].log2() + bin_size / 2


def target_bins(distances: Tensor, edges: Tensor) -> Tensor:
    """Find the bin [b_n, b_{n+1}) that holds each distance (P, 4) in px, given the edges (P, N+1)
    of its level; the outer bins reach to 0 and infinity. (P, 4) int64 in [0, N)."""
    return (distances[..., None] >= edges[:, None, 1:-1]).sum(-1)


def clamp_passing_gradient(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Clamp ``x``, but pass its gradient: a value that overshot can come back."""
    # Adding an exact zero leaves the bound as it is; x + (clamp(x) - x) would round at |x|.
    return x.clamp(*bounds).detach() + (x - x.detach())


def bin_log_probs(bin_logits: Tensor, log_variance: Tensor | None) -> Tensor:
    """Return log p_{x,n} of the bins, the log softmax at temperature sigma^2 (equation 2).

    Args:
        bin_logits: (..., N).
        log_variance: (...), log sigma^2, already clamped; None is sigma^2 = 1.
    """
    if log_variance is not None:
        bin_logits = bin_logits * torch.exp(-log_variance)[..., None]
    # Over a last dimension as short as this one, PyTorch's softmax takes ten times as long.
    return F.log_softmax(bin_logits.movedim(-1, 0), dim=0).movedim(0, -1)


def decode_distances(log2_anchors: Tensor, deltas: Tensor) -> Tensor:
    """Return d = 2^a e^t (equation 1), px, for anchors a and clamped deltas t of one shape."""
    return torch.exp2(log2_anchors) * torch.exp(deltas)


def expected_distances(log_probs: Tensor, log2_anchors: Tensor, deltas: Tensor) -> Tensor:
    """Return the distance (P, 4), px, at the expectation of its logarithm over all bins.

    Where two bins share the probability, it lies between what they decode to: a border does not
    jump when one overtakes the other. Beyond the paper, whose border is that of the best bin.

    Args:
        log_probs, deltas: (P, 4, N), the deltas clamped.
        log2_anchors: (P, N) log2 px.
    """
    log_distances = log2_anchors[:, None] * math.log(2) + deltas
    return (log_probs.exp() * log_distances).sum(-1).exp()


class Borders(NamedTuple):
    """Holds what is true of the four borders of P positives, and what the network says of them."""

    gt_distances: Tensor  # (P, 4) px
    gt_bins: Tensor  # (P, 4) the bins that hold them
    log_probs: Tensor  # (P, 4, N) of all bins
    log_variance: Tensor  # (P, 4) log sigma^2, clamped
    log2_anchors: Tensor  # (P, N) log2 px, of the positive's level
    deltas: Tensor  # (P, 4, N) clamped

    def decode(self, bins: Tensor) -> Tensor:
        """Return the distances (P, 4) in px of the chosen ``bins`` (P, 4)."""
        chosen_deltas = self.deltas.gather(-1, bins[..., None])[..., 0]
        return decode_distances(self.log2_anchors.gather(1, bins), chosen_deltas)

    def expect(self) -> Tensor:
        """Return the :func:`expected_distances` (P, 4) in px."""
        return expected_distances(self.log_probs, self.log2_anchors, self.deltas)

    def error_loss(self, weights: Tensor, decoding: str) -> Tensor:
        """Return :func:`.border_errors.error_loss` of what inference finds; only the weights are
        taught by it."""
        known = self.log_probs, self.log2_anchors, self.deltas
        log_probs, log2_anchors, deltas = (x.detach() for x in known)
        distances = self.predict(decoding, self.log_probs.argmax(-1)).detach()
        scales = error_scales(weights, log_probs, log2_anchors, deltas, distances)
        return error_loss(scales, distances, self.gt_distances)

    def predict(self, decoding: str, bins: Tensor) -> Tensor:
        """Return the distances (P, 4) in px of the chosen ``bins`` (P, 4) or, if this is the
        ``decoding``, at the expectation, which does not choose; see ``DECODINGS``."""
        return self.expect() if decoding == "expectation" else self.decode(bins)
