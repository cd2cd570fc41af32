"""Plain scalar reference of ScopeNet, to check the real implementation against.

Everything is a loop over Python floats. Numpy is used for one thing only: float32 rounding.

Shape letters: B images, L levels, R locations of one image over all levels, M boxes of one
image, C classes, N bins per direction. H x W are the cells of one level.
Directions are ordered (l, t, r, b). Boxes are XYXY, pixels (px) of the network input.
"""

import math
from dataclasses import dataclass

import numpy as np

MIN_SIDE = 1e-5  # px, boxes with a smaller side are ignored
MIN_DELTA, MAX_DELTA = -10.0, math.log(1000.0 / 16.0)
MIN_LOG_VAR, MAX_LOG_VAR = -8.0, 8.0


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of the method (sections 3.1, 3.2, 5.1)."""

    num_classes: int
    strides: tuple  # px, one per level
    num_bins: int = 5
    bin_size: float = 1.0  # log2(b_{n+1} / b_n)
    level_boundaries: tuple = (64, 128, 256, 512)  # px, the L - 1 finite ones
    uncertainty: bool = True
    guided_score: bool = True
    decoding: str = "best_bin"  # "best_bin" | "expectation"
    center_radius_cls: float = 1.5  # strides
    center_radius_loc: float = 2.0  # strides
    focal_loss_alpha: float = 0.25
    focal_loss_gamma: float = 2.0
    bin_loss_weight: float = 0.5
    loc_loss_weight: float = 1.0
    loc_loss_type: str = "iou"  # "iou" | "linear_iou" | "giou"
    score_thresh: float = 0.05
    topk_candidates: int = 1000
    nms_thresh: float = 0.5
    detections_per_image: int = 100


def to_list(values):
    """Tensor, array, or nested lists of them, to nested lists of Python scalars."""
    if hasattr(values, "tolist"):
        return values.tolist()
    if isinstance(values, (list, tuple)):
        return [to_list(v) for v in values]
    return values


def clamp(value, low, high):
    """Scalar clamp that keeps NaN."""
    return value if math.isnan(value) else min(max(value, low), high)


def level_range(settings, level):
    """Regression range [lo, hi) of one level, px (section 3.2)."""
    boundaries = [0.0] + [float(b) for b in settings.level_boundaries] + [math.inf]
    return boundaries[level], boundaries[level + 1]


def bin_edges(settings, level):
    """N + 1 nominal edges b_1 .. b_{N+1} of one level, px: top * 2^(-size * (N + 1 - n))."""
    low, high = level_range(settings, level)
    top = 2.0 * low if high == math.inf else high
    if len(settings.strides) == 1:
        top = 8.0 * settings.strides[level]
    last = settings.num_bins + 1
    return [top * 2.0 ** (-settings.bin_size * (last - n)) for n in range(1, last + 1)]


def anchor_start(settings):
    """L x N starting anchors a_{l,n} = log2(b_{l,n}) + size / 2, log2 px (equation 1)."""
    start = []
    for level in range(len(settings.strides)):
        edges = bin_edges(settings, level)
        start.append([math.log2(b) + settings.bin_size / 2.0 for b in edges[:-1]])
    return start


def bin_of(settings, level, distance):
    """Index (from 0) of the bin [b_n, b_{n+1}) of a distance in px; first and last are open."""
    edges = bin_edges(settings, level)
    for n in range(settings.num_bins - 1):
        if np.float32(distance) < np.float32(edges[n + 1]):
            return n
    return settings.num_bins - 1


def location(settings, level, row, column):
    """Centre (x, y) of a cell, float32 px."""
    stride = settings.strides[level]
    return np.float32((column + 0.5) * stride), np.float32((row + 0.5) * stride)


def border_distances(x, y, box):
    """Distances (l, t, r, b) of a location to the borders of a box, float32 px."""
    x0, y0, x1, y1 = [np.float32(v) for v in box]
    return x - x0, y - y0, x1 - x, y1 - y


def center_distance(x, y, box):
    """L-infinity distance of a location to the centre of a box, float32 px."""
    x0, y0, x1, y1 = [np.float32(v) for v in box]
    half = np.float32(0.5)
    return max(abs(x - (x0 + x1) * half), abs(y - (y0 + y1) * half))


def box_area(box):
    """Area of a box with float32 coordinates, computed in float64, px^2."""
    x0, y0, x1, y1 = [float(np.float32(v)) for v in box]
    return (x1 - x0) * (y1 - y0)


def qualifies(settings, level, x, y, box):
    """Whether a location may be a positive of a box at this level (section 3.2)."""
    x0, y0, x1, y1 = [np.float32(v) for v in box]
    if min(x1 - x0, y1 - y0) < np.float32(MIN_SIDE):
        return False
    distances = border_distances(x, y, box)
    if not min(distances) > 0:  # strictly inside
        return False
    radius = np.float32(settings.center_radius_loc * settings.strides[level])
    if not center_distance(x, y, box) < radius:
        return False
    low, high = level_range(settings, level)
    return bool(np.float32(low) <= max(distances) < np.float32(high))


def assign(settings, shapes, boxes):
    """Label assignment of one image (section 3.2).

    shapes: L pairs (H, W); boxes: M x 4. Returns per level a list of H * W entries (row-major),
    None or (box_index, is_cls_positive).
    """
    boxes = to_list(boxes)
    labels = []
    for level, (height, width) in enumerate(shapes):
        radius_cls = np.float32(settings.center_radius_cls * settings.strides[level])
        entries = []
        for row in range(height):
            for column in range(width):
                x, y = location(settings, level, row, column)
                best = None  # (is far from the centre, area, box index): the smallest wins
                for index, box in enumerate(boxes):
                    is_far = not center_distance(x, y, box) < radius_cls
                    key = (is_far, box_area(box), index)
                    if qualifies(settings, level, x, y, box) and (best is None or key < best):
                        best = key
                entries.append(None if best is None else (best[2], not best[0]))
        labels.append(entries)
    return labels


def bin_log_probs(settings, scores):
    """log p of the N bins of one direction from its N + 1 logits (equation 2).

    p_n = softmax_n(s_n / sigma^2), sigma^2 = exp(s_{N+1}).
    """
    inverse_var = 1.0
    if settings.uncertainty:
        inverse_var = math.exp(-clamp(scores[settings.num_bins], MIN_LOG_VAR, MAX_LOG_VAR))
    scaled = [scores[n] * inverse_var for n in range(settings.num_bins)]
    if not all(math.isfinite(v) or v == -math.inf for v in scaled) or max(scaled) == -math.inf:
        return [math.nan] * settings.num_bins
    largest = max(scaled)
    total = sum(math.exp(value - largest) for value in scaled)
    return [value - largest - math.log(total) for value in scaled]


def read_side(channels, side, count, row, column):
    """The count values of one direction at one cell; channels: (4 * count, H, W)."""
    return [channels[side * count + k][row][column] for k in range(count)]


def decode_distance(log2_anchor, delta):
    """d = A * e^t = 2^a * e^t, px, t clamped (equation 1)."""
    return 2.0**log2_anchor * math.exp(clamp(delta, MIN_DELTA, MAX_DELTA))


def expected_distance(log_probs, log2_anchors, deltas):
    """Distance at the expectation of its logarithm over all bins, px."""
    total = 0.0
    for log_prob, log2_anchor, delta in zip(log_probs, log2_anchors, deltas, strict=True):
        total += math.exp(log_prob) * math.log(decode_distance(log2_anchor, delta))
    return math.exp(total)


def sigmoid(logit):
    """1 / (1 + e^-x) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))


def focal_loss(settings, logit, is_target):
    """-alpha_t * (1 - p_t)^gamma * log(p_t) of one location and class (equation 4, L_cls)."""
    signed = logit if is_target else -logit  # p_t = sigmoid(signed)
    cross_entropy = max(-signed, 0.0) + math.log1p(math.exp(-abs(signed)))
    alpha = settings.focal_loss_alpha if is_target else 1.0 - settings.focal_loss_alpha
    return alpha * sigmoid(-signed) ** settings.focal_loss_gamma * cross_entropy


def border_loss(settings, predicted, target):
    """L_loc of two boxes around one location, each given by its (l, t, r, b), px (equation 4)."""
    left, top, right, bottom = [min(p, q) for p, q in zip(predicted, target, strict=True)]
    intersection = (left + right) * (top + bottom)
    area_predicted = (predicted[0] + predicted[2]) * (predicted[1] + predicted[3])
    area_target = (target[0] + target[2]) * (target[1] + target[3])
    union = area_predicted + area_target - intersection
    iou = intersection / union
    if settings.loc_loss_type == "iou":
        return -math.log(iou)
    if settings.loc_loss_type == "linear_iou":
        return 1.0 - iou
    if settings.loc_loss_type == "giou":
        left, top, right, bottom = [max(p, q) for p, q in zip(predicted, target, strict=True)]
        hull = (left + right) * (top + bottom)
        return 1.0 - (iou - (hull - union) / hull)
    raise ValueError(settings.loc_loss_type)


def losses(settings, log2_anchors, cls_logits, bin_logits, border_deltas, gt_boxes, gt_classes):
    """Weighted losses of one batch on one worker (equation 4).

    log2_anchors: L x N; cls_logits, bin_logits, border_deltas: per level (B, C, H, W),
    (B, 4 * (N + 1), H, W), (B, 4 * N, H, W); gt_boxes, gt_classes: per image M x 4 and M.
    """
    anchors, cls_logits = to_list(log2_anchors), to_list(cls_logits)
    bin_logits, border_deltas = to_list(bin_logits), to_list(border_deltas)
    bins = settings.num_bins
    shapes = [(len(v[0][0]), len(v[0][0][0])) for v in cls_logits]
    sum_cls, sum_bin, sum_loc, num_cls, num_loc = 0.0, 0.0, 0.0, 0, 0
    for image in range(len(gt_boxes)):
        boxes, classes = to_list(gt_boxes[image]), to_list(gt_classes[image])
        labels = assign(settings, shapes, boxes)
        for level, (height, width) in enumerate(shapes):
            for row in range(height):
                for column in range(width):
                    label = labels[level][row * width + column]
                    target_class = None
                    if label is not None and label[1]:
                        num_cls += 1
                        target_class = int(classes[label[0]])
                    for c in range(settings.num_classes):
                        logit = cls_logits[level][image][c][row][column]
                        sum_cls += focal_loss(settings, logit, c == target_class)
                    if label is None:
                        continue
                    num_loc += 1
                    x, y = location(settings, level, row, column)
                    target = [float(d) for d in border_distances(x, y, boxes[label[0]])]
                    predicted, expected = [], []
                    for side in range(4):
                        n = bin_of(settings, level, target[side])
                        scores = read_side(bin_logits[level][image], side, bins + 1, row, column)
                        deltas = read_side(border_deltas[level][image], side, bins, row, column)
                        log_probs = bin_log_probs(settings, scores)
                        sum_bin += -log_probs[n] / 4.0
                        predicted.append(decode_distance(anchors[level][n], deltas[n]))
                        expected.append(expected_distance(log_probs, anchors[level], deltas))
                    loss = border_loss(settings, predicted, target)
                    if settings.decoding == "expectation":
                        loss = (loss + border_loss(settings, expected, target)) / 2.0
                    sum_loc += loss
    return {
        "loss_cls": sum_cls / max(num_cls, 1),
        "loss_bin": settings.bin_loss_weight * sum_bin / max(num_loc, 1),
        "loss_loc": settings.loc_loss_weight * sum_loc / max(num_loc, 1),
    }


def clip_box(box, size):
    """Box clipped to an image of size (height, width), px."""
    height, width = float(size[0]), float(size[1])
    limits = (width, height, width, height)
    return [clamp(value, 0.0, limit) for value, limit in zip(box, limits, strict=True)]


def is_empty(box):
    """Whether a box has no positive width or no positive height."""
    return not (box[2] > box[0] and box[3] > box[1])


def box_iou(first, second):
    """IoU of two non-empty XYXY boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    area_first = (first[2] - first[0]) * (first[3] - first[1])
    area_second = (second[2] - second[0]) * (second[3] - second[1])
    return intersection / (area_first + area_second - intersection)


def best_first(items):
    """Detections by decreasing score, earlier ones first on a tie."""
    return sorted(items, key=lambda item: -item["score"])


def candidates_at(settings, level, row, column, anchors, class_map, bin_map, delta_map):
    """Candidates of one location (equation 3): finite and above the threshold, not clipped.

    anchors: N, log2 px; class_map, bin_map, delta_map: (C, H, W), (4 * (N + 1), H, W),
    (4 * N, H, W).
    """
    bins = settings.num_bins
    border_scores, selected, distances = [], [], []
    for side in range(4):
        log_probs = bin_log_probs(settings, read_side(bin_map, side, bins + 1, row, column))
        best = log_probs.index(max(log_probs))  # the first one on a tie
        border_scores.append(math.exp(log_probs[best]))
        deltas = read_side(delta_map, side, bins, row, column)
        if settings.decoding == "expectation":
            selected += deltas
            distances.append(expected_distance(log_probs, anchors, deltas))
        else:
            selected.append(deltas[best])
            distances.append(decode_distance(anchors[best], deltas[best]))
    if not all(math.isfinite(v) for v in border_scores + selected):
        return []
    loc_score = sum(border_scores) / 4.0
    x, y = [float(v) for v in location(settings, level, row, column)]
    left, top, right, bottom = distances
    box = [float(np.float32(v)) for v in (x - left, y - top, x + right, y + bottom)]
    found = []
    for c in range(settings.num_classes):
        logit = class_map[c][row][column]
        if not math.isfinite(logit):
            continue
        cls_score = sigmoid(logit)
        score = cls_score * loc_score if settings.guided_score else cls_score
        if score > settings.score_thresh:
            found.append(
                {
                    "box": box,
                    "score": score,
                    "class": c,
                    "cls_score": cls_score,
                    "loc_score": loc_score,
                    "border_scores": list(border_scores),
                }
            )
    return found


def class_wise_nms(settings, items):
    """Kept detections, best first: none overlaps a better one of its class by IoU > threshold."""
    kept = []
    for item in best_first(items):
        rivals = [other["box"] for other in kept if other["class"] == item["class"]]
        overlaps = [box_iou(box, item["box"]) for box in rivals]
        if all(overlap <= settings.nms_thresh for overlap in overlaps):
            kept.append(item)
    return kept


def detections(settings, log2_anchors, cls_logits, bin_logits, border_deltas, image_sizes):
    """Detections per image, best first (equation 3); image_sizes: B pairs (height, width).

    Shapes of the other arguments as in losses.
    """
    anchors, cls_logits = to_list(log2_anchors), to_list(cls_logits)
    bin_logits, border_deltas = to_list(bin_logits), to_list(border_deltas)
    results = []
    for image, size in enumerate(image_sizes):
        candidates = []
        for level in range(len(settings.strides)):
            maps = [v[level][image] for v in (cls_logits, bin_logits, border_deltas)]
            of_level = []
            for row in range(len(maps[0][0])):
                for column in range(len(maps[0][0][0])):
                    of_level += candidates_at(settings, level, row, column, anchors[level], *maps)
            candidates += best_first(of_level)[: settings.topk_candidates]
        candidates = [{**item, "box": clip_box(item["box"], size)} for item in candidates]
        candidates = [item for item in candidates if not is_empty(item["box"])]
        results.append(class_wise_nms(settings, candidates)[: settings.detections_per_image])
    return results


def rescale(detection_list, image_size, output_size):
    """Boxes scaled from the network input (h, w) to the output (h, w), clipped, empty dropped."""
    scale_y = output_size[0] / image_size[0]
    scale_x = output_size[1] / image_size[1]
    rescaled = []
    for item in detection_list:
        x0, y0, x1, y1 = item["box"]
        box = clip_box([x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y], output_size)
        if not is_empty(box):
            rescaled.append({**item, "box": box})
    return rescaled
