"""Which levels and bins of a model the boxes of a data set fall into, by its own assignment.

For the shape letters see :mod:`scopenet.modeling.bins`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ...errors import ConfigError
from ...modeling import ScopeNet, bins
from ...modeling.assignment import border_distances
from .findings import Finding

CHUNK = 1024  # boxes that are assigned at once


class BorderCounts(NamedTuple):
    """Where the boxes of a data set fall, at the size that images have in training."""

    sizes: np.ndarray  # (M, 2) width and height in px of the network input
    is_missed: np.ndarray  # (M,) no location of any level qualifies for the box
    positives: np.ndarray  # (L,) locations that qualify for some box, each box by itself
    bins: np.ndarray  # (L, N) borders of these in each bin
    outside: int  # borders of these beyond the nominal edges, in the open part of an outer bin


def build_scopenet(cfg: CfgNode) -> ScopeNet:
    """Build the untrained model, of which only strides, ranges and bins matter; a config of another
    detector, which has no bins, is a ConfigError."""
    if cfg.MODEL.META_ARCHITECTURE != "ScopeNet":
        raise ConfigError(
            f"--config-file is of a {cfg.MODEL.META_ARCHITECTURE}, but only ScopeNet has bins."
        )
    cfg = cfg.clone()
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    return build_model(cfg)


def training_size(cfg: CfgNode) -> int:
    """Return the middle of ``INPUT.MIN_SIZE_TRAIN``, px of the shorter side of an image."""
    sizes = sorted(cfg.INPUT.MIN_SIZE_TRAIN)
    is_range = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range"
    return sum(sizes) // 2 if is_range else sizes[len(sizes) // 2]


def training_sizes(cfg: CfgNode, height: int, width: int) -> tuple[int, int]:
    """Resize (height, width) as training does, at :func:`training_size` and without jitter."""
    middle = training_size(cfg)
    if middle == 0:  # Detectron2's way to leave images as they are
        return height, width
    return ResizeShortestEdge.get_output_shape(height, width, middle, cfg.INPUT.MAX_SIZE_TRAIN)


def find_narrow(images: Sequence[dict[str, Any]], cfg: CfgNode) -> Iterator[Finding]:
    """Find images of which resizing for training leaves nothing, by their entries in the json."""
    for image in images:
        height, width = training_sizes(cfg, image["height"], image["width"])
        if min(height, width) < 1:
            detail = f"{image['width']}x{image['height']} becomes {width}x{height}"
            yield Finding("too narrow image", image["file_name"], "images", image["id"], detail)


def count_borders(content: dict[str, Any], cfg: CfgNode, model: ScopeNet) -> BorderCounts:
    """Count where the boxes of a cleaned json fall, by the assignment and bins of ``model``."""
    boxes, size = _training_boxes(content, cfg)
    num_levels, num_bins = model.log2_anchor_start.shape
    is_missed = torch.ones(len(boxes), dtype=torch.bool)
    in_bins = torch.zeros(num_levels, num_bins, dtype=torch.long)
    outside = 0
    maps = [torch.empty(1, 1, *(-(-x // stride) for x in size)) for stride in model.strides]
    for start in range(0, len(boxes), CHUNK):
        some = boxes[start : start + CHUNK]
        # Each box as an image of its own, so that none takes a location from another.
        alone = [Instances(size, gt_boxes=Boxes(box[None])) for box in some]
        found = model.label_locations((maps,), alone)
        distances = border_distances(found.centers(model.strides), some[found.box])  # (P, 4)
        edges = model.bin_edges[found.level]  # (P, N+1)
        is_missed[start + found.box] = False
        cell = found.level[:, None] * num_bins + bins.target_bins(distances, edges)  # (P, 4)
        in_bins += torch.bincount(cell.flatten(), minlength=in_bins.numel()).view_as(in_bins)
        outside += int(((distances < edges[:, :1]) | (distances >= edges[:, -1:])).sum())
    sizes, positives = boxes[:, 2:] - boxes[:, :2], in_bins.sum(1) // 4
    return BorderCounts(
        sizes.numpy(), is_missed.numpy(), positives.numpy(), in_bins.numpy(), outside
    )


def _training_boxes(content: dict[str, Any], cfg: CfgNode) -> tuple[Tensor, tuple[int, int]]:
    """Return the boxes that are no crowds, XYXY in px of the network input, (M, 4), and height and
    width that hold them all."""
    images = {x["id"]: x for x in content["images"]}
    sizes = {k: training_sizes(cfg, x["height"], x["width"]) for k, x in images.items()}
    boxes = []
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            (x, y, w, h), image = annotation["bbox"], images[annotation["image_id"]]
            height, width = sizes[image["id"]]
            x_scale, y_scale = width / image["width"], height / image["height"]
            boxes.append([x * x_scale, y * y_scale, (x + w) * x_scale, (y + h) * y_scale])
    heights, widths = zip((1, 1), *sizes.values(), strict=True)
    return torch.tensor(boxes).reshape(-1, 4), (max(heights), max(widths))
