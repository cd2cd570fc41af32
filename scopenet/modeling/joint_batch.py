"""What parts of a batch have to know of all of it, to give together the gradient of the whole.

Labels do not depend on the network's outputs, so the positives of a batch are counted before its
first forward pass.
"""

from typing import NamedTuple

import torch
from detectron2.modeling import Backbone
from torch import Tensor
from torch.nn import functional as F


class JointBatch(NamedTuple):
    """Holds the size to which the images of all parts are padded, in px, as the cells of padding
    are negatives, too; and by how many positives the losses are divided."""

    height: int
    width: int
    num_positives: Tensor  # (2,) of the classification and the localization branch


def largest_size(batched_inputs: list[dict]) -> tuple[int, int]:
    """Return the largest height and the largest width of a batch's images, px."""
    heights, widths = zip(*(x["image"].shape[-2:] for x in batched_inputs), strict=True)
    return max(heights), max(widths)


def padding_of(backbone: Backbone) -> dict[str, int]:
    """Return what a backbone wants images padded to, px, as ``ImageList.from_tensors`` reads it: a
    multiple, and a square unless it is 0."""
    found = backbone.padding_constraints
    # Detectron2's SimpleFeaturePyramid spells its key so, which nothing reads.
    step = max(backbone.size_divisibility, found.get("size_divisiblity", 0), 1)
    return {"size_divisibility": step, "square_size": found.get("square_size", 0)}


def padded_size(size: tuple[int, int], padding: dict[str, int]) -> tuple[int, int]:
    """Return the height and width, px, to which images of ``size`` are padded."""
    step, square = padding["size_divisibility"], padding["square_size"]
    height, width = square or size[0], square or size[1]
    return height + -height % step, width + -width % step


def padded_maps(size: tuple[int, int], padding: dict[str, int], strides: list[int]) -> list[Tensor]:
    """Make the levels' maps, without contents, of images that are padded from a size in px."""
    height, width = padded_size(size, padding)
    return [torch.empty(0, -(-height // s), -(-width // s)) for s in strides]


def pad_first(images: list[Tensor], joint: JointBatch | None) -> list[Tensor]:
    """Pad the first of a part's normalized images to the size of the joint batch, to which all are
    padded then."""
    if joint is None:
        return images
    height, width = images[0].shape[-2:]
    first = F.pad(images[0], (0, joint.width - width, 0, joint.height - height))
    return [first, *images[1:]]
