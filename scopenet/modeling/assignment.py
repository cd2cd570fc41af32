"""Label assignment (section 3.2): which locations are positives, and of which box.

A location of level l qualifies for a box when it lies strictly inside the box, its L-infinity
distance to the box centre is below ``radius_loc`` strides, and its largest distance to a border is
in the level's range. At most ``ceil(2 radius_loc)^2`` cells per box and level pass the second test,
and only those are ever looked at: time and memory are O(M), not O(M R).

Labels do not depend on the network, so they are made in the processor's memory, where a loader's
boxes are; a GPU gets the finished list. For the shape letters see :mod:`scopenet.modeling.bins`;
here M counts the boxes of the whole batch.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MIN_BOX_SIDE = 1e-5  # px


class Positives(NamedTuple):
    """Holds P positive locations by (level, image, row, column), at most one entry each."""

    level: Tensor  # (P,)
    image: Tensor  # (P,)
    row: Tensor  # (P,)
    column: Tensor  # (P,)
    box: Tensor  # (P,) index into all boxes of the batch, image after image
    is_cls: Tensor  # (P,) bool: also a positive of the classification branch

    def counts(self) -> Tensor:
        """Count the positives of the classification and the localization branch, (2,) float32."""
        return torch.stack([self.is_cls.sum(), self.is_cls.new_ones(()) * len(self.box)]).float()

    def of_classification(self) -> "Positives":
        """Return those of them that are positives of the classification branch."""
        return Positives(*(x[self.is_cls] for x in self))

    def gather(self, maps: list[Tensor]) -> Tensor:
        """Take the values of L maps (B, channels, H, W), on whatever device, at the positives,
        (P, channels)."""
        counts = torch.bincount(self.level, minlength=len(maps)).tolist()
        places = torch.stack([self.image, self.row, self.column])
        places = places.to(maps[0].device, non_blocking=True).split(counts, dim=1)
        # Of maps whose channels lie next to each other, so do then those of the gradient.
        maps = [x.permute(0, 2, 3, 1) for x in maps]
        return torch.cat([x[b, i, j] for x, (b, i, j) in zip(maps, places, strict=True)])

    def centers(self, strides: Sequence[int]) -> Tensor:
        """Return the locations' coordinates (x, y), (P, 2) float32 px."""
        cells = torch.stack([self.column, self.row], dim=1).float()
        return (cells + 0.5) * torch.tensor(strides)[self.level][:, None]


def border_distances(centers: Tensor, boxes: Tensor) -> Tensor:
    """Measure (l, t, r, b) from points (..., 2) to the borders of XYXY boxes (..., 4), in px."""
    return torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=-1)


def _candidate_cells(box_centers: Tensor, strides: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Find columns and rows whose centre may be within ``radius`` strides of a box centre (M, 2).

    Returns:
        (M, 2, L, W) columns and rows, int64 and possibly outside of the map, with
        W = ceil(2 radius); and the x and y of their centres, float32 px.
    """
    # Float64 keeps the window exact for strides that are powers of two; the float32 comparison
    # made later can only take cells out of it.
    last_before = torch.floor(box_centers.double()[..., None] / strides - (radius + 0.5))
    steps = torch.arange(1, math.ceil(2 * radius) + 1)
    cells = last_before.long()[..., None] + steps
    return cells, (cells.float() + 0.5) * strides[:, None]


def _nearest_then_smallest(location: Tensor, is_cls: Tensor, box: Tensor, areas: Tensor) -> Tensor:
    """Choose of qualifying pairs (Q,) of location and box one for each location: boxes near the
    centre first, then the smallest area (M,), then the first. Indices (P,), ordered by location."""
    area_rank = areas.argsort(stable=True).argsort()
    order = ((2 * location + ~is_cls) * len(areas) + area_rank[box]).argsort()
    location = location[order]
    is_first = torch.ones_like(location, dtype=torch.bool)
    is_first[1:] = location[1:] != location[:-1]
    return order[is_first]


def _grid(of_axes: Tensor) -> tuple[Tensor, Tensor]:
    """Split (M, 2, L, W) of columns and rows into (M, L, 1, W) and (M, L, W, 1), to be combined."""
    return of_axes[:, 0, :, None, :], of_axes[:, 1, :, :, None]


@torch.no_grad()
def assign_locations(
    boxes: Tensor,
    image_of_box: Tensor,
    num_images: int,
    map_sizes: Sequence[Sequence[int]],
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    *,
    radius_cls: float,
    radius_loc: float,
) -> Positives:
    """Find the positive locations of a batch.

    Args:
        boxes: (M, 4) XYXY px of the network input; those with a side below ``MIN_BOX_SIDE`` are
            passed over.
        image_of_box, num_images: (M,) index of each box's image, and B.
        map_sizes: (H, W) of each level; every cell takes part, padding included.
        strides: L, px.
        ranges: L, px, the level's half-open range of the largest border distance.
        radius_cls, radius_loc: in strides, ``radius_cls <= radius_loc``.
    """
    sizes, limits = torch.tensor(strides).float(), torch.tensor(ranges)  # (L,) and (L, 2)
    low, high = boxes.float().unflatten(1, (2, 2))[..., None, None].unbind(1)  # (M, 2, 1, 1)
    middle, sides = (low + high) / 2, high - low
    cells, centers = _candidate_cells(middle[..., 0, 0], sizes, radius_loc)  # (M, 2, L, W)

    # Every test but that of the range holds for a location if it holds for its column and its row.
    heights, widths = torch.tensor(map_sizes).T  # each (L,)
    off_center = (centers - middle).abs()
    fits = (centers > low) & (centers < high) & (sides >= MIN_BOX_SIDE)
    fits &= off_center < radius_loc * sizes[:, None]
    fits &= (cells >= 0) & (cells < torch.stack([widths, heights])[..., None])
    largest = torch.maximum(*_grid(torch.maximum(centers - low, high - centers)))  # (M, L, W, W)
    in_range = (largest >= limits[:, 0, None, None]) & (largest < limits[:, 1, None, None])
    columns, rows = _grid(fits)
    box, level, i, j = (in_range & columns & rows).nonzero(as_tuple=True)
    column, row = cells[box, 0, level, j], cells[box, 1, level, i]
    is_near = off_center < radius_cls * sizes[:, None]
    is_cls = is_near[box, 0, level, j] & is_near[box, 1, level, i]

    # One index for every location of the batch, ordered by (level, image, row, column).
    areas = heights * widths
    starts, image = num_images * (areas.cumsum(0) - areas), image_of_box[box]
    location = starts[level] + image * areas[level] + row * widths[level] + column
    chosen = _nearest_then_smallest(location, is_cls, box, sides.double().prod(1).flatten())
    level, image, row, column, box = torch.stack([level, image, row, column, box])[:, chosen]
    return Positives(level, image, row, column, box, is_cls[chosen])
