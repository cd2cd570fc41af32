"""How far off a border may be, learned from how the probability is spread over its bins.

Beyond the paper, whose confidence of a border is the probability of its best bin: that says how
sure the network is of the bin, not how near the border is. Here the error of a border has a Laplace
distribution; its scale, as a share of the box's side, is a function with three learned weights of
two facts about the bins, and is learned beside the network, which it does not influence.
"""

import math

import torch
from torch import Tensor

# A border is right if it is off by at most this share of the box's side (its width for the left and
# right border, its height for the others).
RIGHT = 0.1
# Where the weights start, near to what they learn: of 1, and of the logarithms of how far the bins
# spread the border, as a share of the side, and of 1 - p of the best bin.
START = (-1.5, 0.5, -0.2)
_LEAST = 1e-3  # of each before its logarithm


def sides(distances: Tensor) -> Tensor:
    """Return the side of the box across which each border (P, 4) lies, px, from its distances."""
    return (distances[:, :2] + distances[:, 2:]).repeat(1, 2)


def error_scales(
    weights: Tensor, log_probs: Tensor, log2_anchors: Tensor, deltas: Tensor, distances: Tensor
) -> Tensor:
    """Return the scale (P, 4) of the Laplace distribution of each border's error, px, which is the
    mean of its absolute value.

    Args:
        weights: (3,).
        log_probs, deltas: (P, 4, N), the deltas clamped.
        log2_anchors: (P, N) log2 px.
        distances: (P, 4) px, of the borders whose errors are asked for.
    """
    log_distances = log2_anchors[:, None] * math.log(2) + deltas
    probs = log_probs.exp()
    mean = (probs * log_distances).sum(-1, keepdim=True)
    spread = (probs * (log_distances - mean).square()).sum(-1).sqrt()
    side = sides(distances)
    facts = torch.stack([spread * distances / side, 1 - probs.amax(-1)], dim=-1)
    # No matrix product, which exports to 8-bit integers would quantize.
    logs = weights[0] + ((facts + _LEAST).log() * weights[1:]).sum(-1)
    return side * logs.exp()


def probability_right(scales: Tensor, distances: Tensor) -> Tensor:
    """Return the probability (P, 4) that the error of a border is at most ``RIGHT`` of its side."""
    return 1 - (-RIGHT * sides(distances) / scales).exp()


def standard_deviations(scales: Tensor) -> Tensor:
    """Return the standard deviation of each border's error, in the unit of its scale."""
    return math.sqrt(2) * scales


def error_loss(scales: Tensor, distances: Tensor, gt_distances: Tensor) -> Tensor:
    """Sum over locations the negative log likelihood of the errors of borders (P, 4), as shares of
    the box's side, the mean over the four directions and without its constant."""
    relative_scales = scales / sides(distances)
    return ((distances - gt_distances).abs() / scales + relative_scales.log()).sum() / 4
