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

CHUNK = 64  # images that are assigned at once


class BorderCounts(NamedTuple):
    """Where the boxes of a data set fall, at the size that images have in training."""

    sizes: np.ndarray  # (M, 2) width and height in px of the network input
    is_missed: np.ndarray  # (M,) no location of any level qualifies for the box
    positives: np.ndarray  # (L,) locations that qualify for some box, each box by itself
    bins: np.ndarray  # (L, N) borders of these in each bin
    outside: int  # borders of these beyond the nominal edges, in the open part of an outer bin
    edges: np.ndarray  # (L, N+1) px
    levels: list[str]  # their names


def build_scopenet(cfg: CfgNode) -> ScopeNet:
    """The untrained model, of which only strides, ranges and bins matter.

    Raises:
        ConfigError: the config is of another detector, which has no bins.
    """
    if cfg.MODEL.META_ARCHITECTURE != "ScopeNet":
        raise ConfigError(
            f"--config-file is of a {cfg.MODEL.META_ARCHITECTURE}, but only ScopeNet has bins."
        )
    cfg = cfg.clone()
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    return build_model(cfg)


def training_sizes(cfg: CfgNode, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image in training, at the middle of ``INPUT.MIN_SIZE_TRAIN``."""
    sizes = sorted(cfg.INPUT.MIN_SIZE_TRAIN)
    middle = sizes[len(sizes) // 2]
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
        middle = sum(sizes) // 2
    if middle == 0:  # Detectron2's way to leave images as they are
        return height, width
    return ResizeShortestEdge.get_output_shape(height, width, middle, cfg.INPUT.MAX_SIZE_TRAIN)


def find_narrow(images: Sequence[dict[str, Any]], cfg: CfgNode) -> Iterator[Finding]:
    """Of the images with all fields those of which resizing for training leaves nothing."""
    for image in images:
        width, height = image["width"], image["height"]
        resized_height, resized_width = training_sizes(cfg, height, width)
        if min(resized_height, resized_width) < 1:
            detail = f"{width}x{height} becomes {resized_width}x{resized_height}"
            yield Finding("too narrow image", image["file_name"], "images", image["id"], detail)


def count_borders(content: dict[str, Any], cfg: CfgNode, model: ScopeNet) -> BorderCounts:
    """
    Args:
        content: cleaned, see :func:`~scopenet.data.coco_json.clean`.
        cfg: how images are resized.
        model: whose assignment and bins are asked.
    """
    of_image: dict[Any, list] = {}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            of_image.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    images = [x for x in content["images"] if x["id"] in of_image]
    parts = [
        _count(images[i : i + CHUNK], of_image, cfg, model) for i in range(0, len(images), CHUNK)
    ]
    num_levels, num_bins = model.log2_anchor_start.shape
    empty = [np.zeros((0, 2)), np.zeros(0, bool), np.zeros(num_levels, int)]
    sizes, is_missed, positives, in_bins, outside = zip(
        (*empty, np.zeros((num_levels, num_bins), int), 0), *parts, strict=True
    )
    return BorderCounts(
        sizes=np.concatenate(sizes),
        is_missed=np.concatenate(is_missed),
        positives=sum(positives),
        bins=sum(in_bins),
        outside=sum(outside),
        edges=model.bin_edges.numpy(),
        levels=list(model.head_in_features),
    )


def _count(images: Sequence[dict], of_image: dict, cfg: CfgNode, model: ScopeNet) -> tuple:
    boxes, largest = [], [1, 1]
    for image in images:
        height, width = training_sizes(cfg, image["height"], image["width"])
        largest = [max(largest[0], height), max(largest[1], width)]
        scale = torch.tensor([width / image["width"], height / image["height"]] * 2)
        xywh = torch.tensor(of_image[image["id"]], dtype=torch.float64)
        xyxy = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
        boxes.append((xyxy * scale).float())
    boxes = torch.cat(boxes)
    # Each box as an image of its own, so that none takes a location from another.
    alone = [Instances(tuple(largest), gt_boxes=Boxes(box[None])) for box in boxes]
    maps = [torch.empty(1, 1, *(-(-x // stride) for x in largest)) for stride in model.strides]
    positives = model.label_locations((maps,), alone)
    centers = positives.centers(model.level_strides)
    distances = border_distances(centers, boxes[positives.box])  # (P, 4)
    edges = model.bin_edges[positives.level]  # (P, N+1)
    is_missed = torch.ones(len(boxes), dtype=torch.bool)
    is_missed[positives.box] = False
    num_levels, num_bins = model.log2_anchor_start.shape
    return (
        (boxes[:, 2:] - boxes[:, :2]).numpy(),
        is_missed.numpy(),
        torch.bincount(positives.level, minlength=num_levels).numpy(),
        _per_level(positives.level, bins.target_bins(distances, edges), num_levels, num_bins),
        int(((distances < edges[:, :1]) | (distances >= edges[:, -1:])).sum()),
    )


def _per_level(level: Tensor, chosen: Tensor, num_levels: int, num_bins: int) -> np.ndarray:
    """(P,) and (P, 4) -> how many borders of each level are in each bin, (L, N)."""
    index = level[:, None] * num_bins + chosen
    counts = torch.bincount(index.flatten(), minlength=num_levels * num_bins)
    return counts.view(num_levels, num_bins).numpy()
