"""From raw head outputs to detections (section 3.1, equation 3): one function, tensors only.

Eager inference and every export run this same code; but for the shortcut before NMS, which only
eager inference takes, it has no data-dependent Python branch, and no shape is frozen in: it traces
at one image size and runs at another.
For the shape letters see :mod:`scopenet.modeling.bins`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from .bins import (
    DELTA_RANGE,
    LOG_VARIANCE_RANGE,
    bin_log_probs,
    decode_distances,
    expected_distances,
)
from .border_errors import error_scales, probability_right, standard_deviations
from .head import split_bin_logits

REFUSED = -1.0  # in place of the score of what is not finite


class Detections(NamedTuple):
    """Holds K detections of one image, best first."""

    boxes: Tensor  # (K, 4) XYXY px of the network input
    scores: Tensor  # (K,) p_box, or p_cls where the guided score is off
    classes: Tensor  # (K,) int64
    cls_scores: Tensor  # (K,) p_cls
    loc_scores: Tensor  # (K,) p_loc
    border_scores: Tensor  # (K, 4) of l, t, r, b: see `decode_locations`
    border_stds: Tensor | None = None  # (K, 4) px, expected errors, where they are learned

    def take(self, kept: Tensor) -> "Detections":
        """Return the detections with the indices ``kept``."""
        return Detections._make(None if x is None else x.index_select(0, kept) for x in self)


class Decoded(NamedTuple):
    """Holds the borders of P locations."""

    distances: Tensor  # (P, 4) px, NaN where an input that counts is not finite
    scores: Tensor  # (P, 4), NaN as well
    stds: Tensor | None  # (P, 4) px, where errors are learned


def decode_locations(
    bin_logits: Tensor,
    deltas: Tensor,
    log2_anchors: Tensor,
    *,
    uncertainty: bool,
    decoding: str,
    error_weights: Tensor | None = None,
) -> Decoded:
    """Decode border distances and how sure they are: the probability of the best bin or, with
    ``error_weights``, that of being right, and the standard deviation of the error.

    Args:
        bin_logits, deltas: (P, 4 (N+1)) and (P, 4 N), raw head outputs.
        log2_anchors: (P, N) log2 px, of the locations' levels.
        uncertainty: divide the bin logits by sigma^2 (equation 2).
        decoding: one of :data:`~scopenet.modeling.bins.DECODINGS`.
        error_weights: see :mod:`scopenet.modeling.border_errors`.
    """
    num_bins = log2_anchors.shape[1]
    logits, log_variance = split_bin_logits(bin_logits, num_bins)
    softening = log_variance.clamp(*LOG_VARIANCE_RANGE) if uncertainty else None
    log_probs = bin_log_probs(logits, softening)  # (P, 4, N)
    best_log_probs, best_bins = log_probs.max(-1)  # each (P, 4)
    deltas = deltas.unflatten(1, (4, num_bins))
    clamped = deltas.clamp(*DELTA_RANGE)
    if decoding == "expectation":
        counted = deltas.sum(-1)
        distances = expected_distances(log_probs, log2_anchors, clamped)
    else:
        counted = deltas.gather(-1, best_bins[..., None])[..., 0]
        anchors = log2_anchors.gather(1, best_bins)
        distances = decode_distances(anchors, counted.clamp(*DELTA_RANGE))
    scores, stds = best_log_probs.exp(), None
    if error_weights is not None:
        scales = error_scales(error_weights, log_probs, log2_anchors, clamped, distances)
        scores, stds = probability_right(scales, distances), standard_deviations(scales)
    is_finite = (counted + best_log_probs).isfinite()
    return Decoded(distances.where(is_finite, math.nan), scores.where(is_finite, math.nan), stds)


def grid(maps: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the centres (R, 2), x and y in px, and the levels (R,) of the cells of all maps
    (channels, H, W), row by row."""
    centers, levels = [], []
    for level, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        height, width = x.shape[-2:]
        axes = (torch.arange(n, device=x.device) for n in (width, height))
        cells = torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1).flatten(0, 1)
        centers.append((cells + 0.5) * stride)
        levels.append(torch.full_like(cells[:, 0], level))
    return torch.cat(centers), torch.cat(levels)


def rank_within(groups: Tensor, num_groups: int) -> Tensor:
    """Count for each member of (K,) groups those of its own that come before it, (K,)."""
    # Sums along the last dimension: along the first, GPUs add one row after the other.
    is_member = torch.arange(num_groups, device=groups.device)[:, None] == groups
    return is_member.cumsum(1).gather(0, groups[None])[0] - 1


def find_candidates(
    cls_logits: list[Tensor],
    bin_logits: list[Tensor],
    border_deltas: list[Tensor],
    log2_anchors: Tensor,
    strides: Sequence[int],
    *,
    guided_score: bool,
    score_thresh: float,
    **decoding_options,
) -> tuple[Detections, Tensor]:
    """Find what scores above a threshold, best first, and its level (K,); boxes neither clipped nor
    suppressed. As p_box <= p_cls, the class logits alone rule out nearly all locations at once.
    What is not finite comes last, with the score ``REFUSED``.

    Args:
        cls_logits, bin_logits, border_deltas, log2_anchors, strides: see :func:`detect`.
        guided_score: score by p_box = p_cls p_loc (equation 3) instead of p_cls.
        score_thresh: keep scores above, in [0, 1).
        decoding_options: see :func:`decode_locations`.
    """
    centers, level = grid(cls_logits, strides)
    # One list of locations over all levels: a GPU is waited for once, and not once per level.
    maps = cls_logits, bin_logits, border_deltas
    logits, bin_values, deltas = (torch.cat([x.flatten(1).T for x in of]) for of in maps)

    logit_bound = math.log(score_thresh / (1 - score_thresh)) if score_thresh > 0 else -math.inf
    # The margin is for rounding: the exact comparison is made with the scores below. "Not below"
    # lets NaN pass, which rules out single classes only.
    (places,) = (~(logits.amax(1) <= logit_bound - 1e-3)).nonzero(as_tuple=True)
    centers, level, logits, bin_values, deltas = (
        x.index_select(0, places) for x in (centers, level, logits, bin_values, deltas)
    )
    anchors = log2_anchors[level]
    borders = decode_locations(bin_values, deltas, anchors, **decoding_options)
    left_top, right_bottom = borders.distances.split(2, dim=1)
    boxes = torch.cat([centers - left_top, centers + right_bottom], dim=1)
    p_cls, p_loc = logits.sigmoid(), borders.scores.mean(-1)
    scores = p_cls * p_loc[:, None] if guided_score else p_cls

    found, classes = (scores > score_thresh).nonzero().unbind(1)  # pairs of location and class
    is_finite = (logits[found, classes] + p_loc[found]).isfinite()
    of_pairs = scores[found, classes].where(is_finite, REFUSED)
    of_pairs, order = of_pairs.sort(descending=True, stable=True)
    found, classes = found[order], classes[order]
    candidates = Detections(
        boxes=boxes[found],
        scores=of_pairs,
        classes=classes,
        cls_scores=p_cls[found, classes],
        loc_scores=p_loc[found],
        border_scores=borders.scores[found],
        border_stds=None if borders.stds is None else borders.stds[found],
    )
    return candidates, level[found]


def class_wise_nms(boxes: Tensor, scores: Tensor, classes: Tensor, nms_thresh: float) -> Tensor:
    """Return the indices of the boxes (K, 4), XYXY and not negative, that NMS within each class
    leaves, best first."""
    # Every class gets a place of its own beside the others.
    extent = torch.cat([boxes.flatten(), boxes.new_ones(1)]).amax(0) + 1
    return nms(boxes + (classes * extent)[:, None], scores.to(boxes), nms_thresh)


def best_after_nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, nms_thresh: float, max_detections: int
) -> Tensor:
    """Return the indices of the best boxes that :func:`class_wise_nms` leaves, best first.

    What is left of a box depends on better ones only: where the first few hundred leave enough, the
    others need no look. A graph that is traced or exported looks at all of them.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return class_wise_nms(boxes, scores, classes, nms_thresh)[:max_detections]
    if boxes.device.type != "mps":  # which has no float64
        boxes = boxes.double()  # the places of many classes beside each other would be rounded
    order = scores.argsort(descending=True, stable=True)
    best = order[: 4 * max_detections]
    keep = best[class_wise_nms(boxes[best], scores[best], classes[best], nms_thresh)]
    if len(keep) < max_detections and len(best) < len(order):
        keep = class_wise_nms(boxes, scores, classes, nms_thresh)
    return keep[:max_detections]


def detect(
    cls_logits: list[Tensor],
    bin_logits: list[Tensor],
    border_deltas: list[Tensor],
    log2_anchors: Tensor,
    strides: Sequence[int],
    image_size: Tensor,
    *,
    topk_candidates: int,
    nms_thresh: float,
    max_detections: int,
    **score_options,
) -> Detections:
    """Detect in one image, from the raw outputs of :class:`~scopenet.modeling.ScopeHead`.

    Args:
        cls_logits, bin_logits, border_deltas: L maps each, (C | 4 (N+1) | 4 N, H, W), float32.
        log2_anchors, strides: (L, N) log2 px, and L in px.
        image_size: (2,) height and width of the network input, without padding, px.
        topk_candidates: at most so many of each level go on to NMS.
        nms_thresh: IoU of two boxes of one class above which the lower score goes.
        max_detections, score_options: at most so many per image; see :func:`find_candidates`.
    """
    maps = cls_logits, bin_logits, border_deltas
    found, level = find_candidates(*maps, log2_anchors, strides, **score_options)
    limits = image_size.flip(0).repeat(2).to(found.boxes, non_blocking=True)  # (4,) w, h, w, h
    boxes = torch.minimum(found.boxes.clamp(min=0), limits)
    is_kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    is_kept &= found.scores != REFUSED
    is_kept &= rank_within(level, len(strides)) < topk_candidates
    (kept,) = is_kept.nonzero(as_tuple=True)
    ranked = boxes[kept], found.scores[kept], found.classes[kept]
    kept = kept[best_after_nms(*ranked, nms_thresh, max_detections)]
    return found._replace(boxes=boxes).take(kept)
