"""Detection in images that are larger than the network's input: tile by tile."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from ..errors import ConfigError
from .merging import merge

NMS_THRESH = 0.5  # of detections from different tiles


def check_tiling(tile: int | None, overlap: int | None) -> None:
    """Refuse tiles that cannot be.

    Raises:
        ConfigError: the tiles would not cover an image.
    """
    if tile is None:
        if overlap is not None:
            raise ConfigError("--overlap is of tiles; give --tile, too.")
    elif tile < 1:
        raise ConfigError(f"--tile must be at least 1 px, got {tile}.")
    elif overlap is not None and not 0 <= overlap < tile:
        raise ConfigError(f"--overlap must be in [0, {tile}), less than the tile; got {overlap}.")


def tile_starts(length: int, tile: int, overlap: int = 0) -> list[int]:
    """Say where the tiles start that cover ``length`` px evenly; neighbours share ``overlap`` or
    more.

    Every tile has its full size, so that all are seen at one scale; where ``length`` is no multiple
    of it, neighbours overlap.
    """
    count = max(1, math.ceil((length - overlap) / (tile - overlap)))
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)]


def tile_frames(height: int, width: int, tile: int, overlap: int) -> Iterator[tuple[int, ...]]:
    """Yield the tiles of an image, row by row, as XYXY px; smaller than ``tile`` only if the image
    is."""
    starts = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    for y, x in itertools.product(*starts):
        yield x, y, min(x + tile, width), min(y + tile, height)


def predict_tiles(
    detector: Callable[[np.ndarray], dict[str, Instances]],
    image: np.ndarray,
    *,
    tile: int,
    overlap: int,
    score_thresh: float,
    nms_thresh: float = NMS_THRESH,
) -> Instances:
    """Find objects in a whole image, in px of it, best first.

    Args:
        detector: see :class:`~scopenet.Detector`; it is shown one tile at a time.
        image: BGR uint8 (H, W, 3).
        tile: the side of the square tiles, px.
        overlap: what neighbouring tiles share at least, px, in [0, tile).
        score_thresh: a detection below does not count, neither as itself nor as a part of another.
        nms_thresh: see :func:`~scopenet.predict.merging.merge`.
    """
    height, width = image.shape[:2]
    frames = list(tile_frames(height, width, tile, overlap))
    found = []
    for x0, y0, x1, y1 in frames:
        instances = detector(np.ascontiguousarray(image[y0:y1, x0:x1]))["instances"]
        found.append(_moved(instances[instances.scores >= score_thresh], x0, y0, (height, width)))
    counts = torch.tensor([len(x) for x in found])
    tiles = torch.tensor(frames, dtype=torch.float32).repeat_interleave(counts, dim=0)
    return merge(Instances.cat(found), tiles, nms_thresh)


def _moved(instances: Instances, x: int, y: int, image_size: tuple[int, int]) -> Instances:
    """Move the detections of a tile at (x, y) into the frame of the image."""
    corner = torch.tensor([x, y, x, y]).to(instances.pred_boxes.tensor)
    boxes = Boxes(instances.pred_boxes.tensor + corner)
    return Instances(image_size, **instances.get_fields() | {"pred_boxes": boxes})
