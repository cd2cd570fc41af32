"""Label assignment (section 3.2): which locations are positives, and of which box.

A location of level l qualifies for a box when it lies strictly inside the box, its L-infinity
distance to the box centre is below ``radius_loc`` strides, and its largest distance to a border is
in the level's range. At most ``ceil(2 radius_loc)^2`` cells per box and level pass the second test,
and only those are ever looked at: time and memory are O(M), not O(M R).

For the shape letters see :mod:`scopenet.modeling.bins`; here M counts the boxes of the whole batch.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MIN_BOX_SIDE = 1e-5  # px


class Positives(NamedTuple):
    """P positive locations, ordered by (level, image, row, column), at most one entry each."""

    level: Tensor  # (P,)
    image: Tensor  # (P,)
    row: Tensor  # (P,)
    column: Tensor  # (P,)
    box: Tensor  # (P,) index into all boxes of the batch, image after image
    is_cls: Tensor  # (P,) bool: also a positive of the classification branch

    def counts(self) -> Tensor:
        """Positives of the classification and of the localization branch, (2,) float32."""
        return torch.stack([self.is_cls.sum(), self.is_cls.new_ones(()) * len(self.box)]).float()

    def gather(self, maps: list[Tensor]) -> Tensor:
        """L maps (B, channels, H, W) -> their values at the positives, (P, channels)."""
        counts = torch.bincount(self.level, minlength=len(maps)).tolist()
        places = [x.split(counts) for x in (self.image, self.row, self.column)]
        return torch.cat([x[b, :, i, j] for x, b, i, j in zip(maps, *places, strict=True)])

    def centers(self, strides: Tensor) -> Tensor:
        """The locations' coordinates (x, y), (P, 2) float32 px."""
        cells = torch.stack([self.column, self.row], dim=1).float()
        return (cells + 0.5) * strides[self.level][:, None]


def border_distances(centers: Tensor, boxes: Tensor) -> Tensor:
    """Distances (l, t, r, b) of points (..., 2) to the borders of XYXY boxes (..., 4), in px."""
    return torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=-1)


def _candidate_cells(
    box_centers: Tensor, strides: Tensor, radius: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Every cell whose centre may be nearer than ``radius`` strides to a box centre (M, 2).

    Returns:
        rows and columns, each (M, L, W²) int64 and possibly outside of the map, with
        W = ceil(2 radius); and the cells' centres (M, L, W², 2), float32 px.
    """
    # Float64 keeps the window exact for strides that are powers of two; the float32 comparison
    # made later can only take cells out of it.
    window = math.ceil(2 * radius)
    in_cells = box_centers.double()[:, None] / strides.double()[:, None] - 0.5  # (M, L, 2)
    first = torch.floor(in_cells - radius).long() + 1
    steps = torch.arange(window, device=strides.device)
    columns, rows = (first[..., None] + steps).unbind(2)  # each (M, L, W)
    columns, rows = torch.broadcast_tensors(columns[..., None, :], rows[..., :, None])
    columns, rows = columns.flatten(2), rows.flatten(2)
    cells = torch.stack([columns, rows], dim=-1)
    return rows, columns, (cells.float() + 0.5) * strides[:, None, None]


def _nearest_then_smallest(location: Tensor, is_cls: Tensor, box: Tensor, areas: Tensor) -> Tensor:
    """Of qualifying pairs (Q,) of location and box the one that wins each location: boxes near the
    centre first, then the smallest area (M,), then the first. Indices (P,), ordered by location."""
    num_boxes = len(areas)
    area_rank = torch.empty_like(areas, dtype=torch.long)
    area_rank[areas.argsort(stable=True)] = torch.arange(num_boxes, device=areas.device)
    key = (2 * location + ~is_cls) * num_boxes + area_rank[box]
    order = key.argsort()
    location = location[order]
    is_first = torch.ones_like(location, dtype=torch.bool)
    is_first[1:] = location[1:] != location[:-1]
    return order[is_first]


@torch.no_grad()
def assign_locations(
    boxes: Tensor,
    image_of_box: Tensor,
    num_images: int,
    map_sizes: Sequence[tuple[int, int]],
    strides: Tensor,
    ranges: Tensor,
    *,
    radius_cls: float,
    radius_loc: float,
) -> Positives:
    """Positive locations of a batch.

    Args:
        boxes: (M, 4) XYXY px of the network input; those with a side below ``MIN_BOX_SIDE`` are
            passed over.
        image_of_box: (M,) index of each box's image.
        num_images: B.
        map_sizes: (H, W) of each level; every cell takes part, padding included.
        strides: (L,) px.
        ranges: (L, 2) px, the level's half-open range of the largest border distance.
        radius_cls, radius_loc: in strides, ``radius_cls <= radius_loc``.
    """
    boxes = boxes.float()
    heights, widths = torch.tensor(map_sizes, device=boxes.device).T[..., None]  # each (L, 1)
    sides = boxes[:, 2:] - boxes[:, :2]
    box_centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    rows, columns, centers = _candidate_cells(box_centers, strides, radius_loc)

    distances = border_distances(centers, boxes[:, None, None])  # (M, L, W², 4)
    largest = distances.amax(-1)
    off_center = (centers - box_centers[:, None, None]).abs().amax(-1)
    qualifies = (distances.amin(-1) > 0) & (off_center < radius_loc * strides[:, None])
    qualifies &= (largest >= ranges[:, 0, None]) & (largest < ranges[:, 1, None])
    qualifies &= (rows >= 0) & (rows < heights) & (columns >= 0) & (columns < widths)
    qualifies &= (sides.amin(-1) >= MIN_BOX_SIDE)[:, None, None]
    box, level, cell = qualifies.nonzero(as_tuple=True)
    row, column = rows[box, level, cell], columns[box, level, cell]
    is_cls = off_center[box, level, cell] < radius_cls * strides[level]

    # One index for every location of the batch, ordered by (level, image, row, column).
    areas_of_maps = (heights * widths).flatten()
    level_start = num_images * (areas_of_maps.cumsum(0) - areas_of_maps)
    image = image_of_box[box]
    location = level_start[level] + image * areas_of_maps[level] + row * widths[level, 0] + column
    chosen = _nearest_then_smallest(location, is_cls, box, sides.double().prod(-1))
    return Positives(*(x[chosen] for x in (level, image, row, column, box, is_cls)))
