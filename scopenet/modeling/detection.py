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

from .bins import DELTA_RANGE, LOG_VARIANCE_RANGE, bin_log_probs, decode_distances
from .head import split_bin_logits


class Detections(NamedTuple):
    """Holds K detections of one image, best first."""

    boxes: Tensor  # (K, 4) XYXY px of the network input
    scores: Tensor  # (K,) p_box, or p_cls where the guided score is off
    classes: Tensor  # (K,) int64
    cls_scores: Tensor  # (K,) p_cls
    loc_scores: Tensor  # (K,) p_loc
    border_scores: Tensor  # (K, 4) probability of the chosen bin of l, t, r, b


def decode_locations(
    bin_logits: Tensor, deltas: Tensor, log2_anchors: Tensor, *, uncertainty: bool
) -> tuple[Tensor, Tensor]:
    """Decode border distances (P, 4) in px of the best bin of each direction and that bin's
    probability (P, 4), NaN where an input that counts is not finite.

    Args:
        bin_logits, deltas: (P, 4 (N+1)) and (P, 4 N), raw head outputs.
        log2_anchors: (N,) log2 px of the locations' level.
    """
    num_bins = log2_anchors.shape[0]
    logits, log_variance = split_bin_logits(bin_logits, num_bins)
    log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE) if uncertainty else None
    log_probs, best_bins = bin_log_probs(logits, log_variance).max(-1)  # each (P, 4)
    best_deltas = deltas.unflatten(1, (4, num_bins)).gather(-1, best_bins[..., None])[..., 0]
    distances = decode_distances(log2_anchors[best_bins], best_deltas.clamp(*DELTA_RANGE))
    is_finite = (best_deltas + log_probs).isfinite()
    values = torch.stack([distances, log_probs.exp()]).where(is_finite, math.nan)
    return values[0], values[1]


def detect_level(
    cls_logits: Tensor,
    bin_logits: Tensor,
    deltas: Tensor,
    log2_anchors: Tensor,
    stride: int,
    *,
    uncertainty: bool,
    guided_score: bool,
    score_thresh: float,
    topk_candidates: int,
) -> Detections:
    """Find the best candidates of one level of one image, boxes neither clipped nor suppressed. As
    p_box <= p_cls, the class logits alone rule out nearly all locations at once.

    Args:
        cls_logits, bin_logits, deltas: (C | 4 (N+1) | 4 N, H, W), float32.
        log2_anchors, stride: (N,) log2 px, and px.
        uncertainty: divide the bin logits by sigma^2 (equation 2).
        guided_score: score by p_box = p_cls p_loc (equation 3) instead of p_cls.
        score_thresh: keep scores above, in [0, 1).
        topk_candidates: at most so many.
    """
    logit_bound = math.log(score_thresh / (1 - score_thresh)) if score_thresh > 0 else -math.inf
    # The margin is for rounding: the exact comparison is made with the scores below. "Not below"
    # lets NaN pass, which rules out single classes only.
    is_candidate = ~(cls_logits.amax(0) <= logit_bound - 1e-3)
    rows, columns = is_candidate.nonzero().unbind(1)  # each (P,)
    places = rows * cls_logits.shape[-1] + columns
    maps = cls_logits, bin_logits, deltas
    at_places = (x.flatten(1).T.index_select(0, places) for x in maps)
    cls_logits, bin_logits, deltas = at_places  # each (P, channels)
    distances, probs = decode_locations(bin_logits, deltas, log2_anchors, uncertainty=uncertainty)
    p_cls, p_loc = cls_logits.sigmoid(), probs.mean(-1)
    scores = p_cls * p_loc[:, None] if guided_score else p_cls

    found, classes = (scores > score_thresh).nonzero().unbind(1)  # pairs of location and class
    is_finite = (cls_logits[found, classes] + p_loc[found]).isfinite()
    found, classes = found[is_finite], classes[is_finite]
    order = scores[found, classes].argsort(descending=True, stable=True)[:topk_candidates]
    found, classes = found[order], classes[order]
    centers = (torch.stack([columns[found], rows[found]], dim=1) + 0.5) * stride
    left_top, right_bottom = distances[found].split(2, dim=1)
    return Detections(
        boxes=torch.cat([centers - left_top, centers + right_bottom], dim=1),
        scores=scores[found, classes],
        classes=classes,
        cls_scores=p_cls[found, classes],
        loc_scores=p_loc[found],
        border_scores=probs[found],
    )


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
    nms_thresh: float,
    max_detections: int,
    **level_options,
) -> Detections:
    """Detect in one image, from the raw outputs of :class:`~scopenet.modeling.ScopeHead`.

    Args:
        cls_logits, bin_logits, border_deltas: L maps each, (C | 4 (N+1) | 4 N, H, W), float32.
        log2_anchors, strides: (L, N) log2 px, and L in px.
        image_size: (2,) height and width of the network input, without padding, px.
        nms_thresh: IoU of two boxes of one class above which the lower score goes.
        max_detections, level_options: at most so many per image; see :func:`detect_level`.
    """
    anchors = log2_anchors.unbind()
    maps = zip(cls_logits, bin_logits, border_deltas, anchors, strides, strict=True)
    levels = [detect_level(*of_level, **level_options) for of_level in maps]
    found = Detections(*map(torch.cat, zip(*levels, strict=True)))
    limits = image_size.flip(0).repeat(2).to(found.boxes)  # (4,) width, height, width, height
    boxes = torch.minimum(found.boxes.clamp(min=0), limits)
    is_nonempty = (boxes[:, 2:] > boxes[:, :2]).all(1).nonzero()[:, 0]
    ranked = boxes[is_nonempty], found.scores[is_nonempty], found.classes[is_nonempty]
    keep = is_nonempty[best_after_nms(*ranked, nms_thresh, max_detections)]
    return Detections(*(x.index_select(0, keep) for x in found._replace(boxes=boxes)))
