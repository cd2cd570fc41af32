"""Detection in images that are larger than the network's input: tile by tile, and what is found in
them put together, each object once.

Where two tiles overlap, both see the same objects, and each cuts those that reach beyond it. So two
detections are compared by what *both* tiles can see of them: each box is clipped to the other's
tile first. Of two tiles that see an object whole this leaves NMS as it is; a cut box is found to be
a part of the whole one, however small the part; and two parts of an object that is larger than the
overlap are found to be of one object.

K detections, directions in the order (l, t, r, b), boxes and tiles XYXY in px of the image.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..errors import ConfigError

NMS_THRESH = 0.5  # of detections from different tiles
# A border this near to that of its tile, in parts of the tile's side, is taken to be cut.
CUT_MARGIN = 0.02


def check_tiling(tile: int | None, overlap: int | None) -> None:
    """Refuse, by a ConfigError, tiles that would not cover an image."""
    if tile is None:
        if overlap is not None:
            raise ConfigError("--overlap is of tiles; give --tile, too.")
    elif tile < 1:
        raise ConfigError(f"--tile must be at least 1 px, got {tile}.")
    elif overlap is not None and not 0 <= overlap < tile:
        raise ConfigError(f"--overlap must be in [0, {tile}), less than the tile; got {overlap}.")


def tile_starts(length: int, tile: int, overlap: int = 0) -> list[int]:
    """Say where the tiles start that cover ``length`` px evenly. All have their full size, so that
    they are seen at one scale; neighbours share ``overlap`` or more."""
    count = max(1, math.ceil((length - overlap) / (tile - overlap)))
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)]


def tile_frames(height: int, width: int, tile: int, overlap: int) -> Iterator[tuple[int, ...]]:
    """Yield the tiles of an image row by row; smaller than ``tile`` only if the image is."""
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
) -> Instances:
    """Find objects in a whole image, in px of it, best first.

    Args:
        detector: see :class:`~scopenet.Detector`; it is shown one tile at a time.
        image: BGR uint8 (H, W, 3).
        tile: the side of the square tiles, px.
        overlap: what neighbouring tiles share at least, px, in [0, tile).
        score_thresh: a detection below does not count, neither as itself nor as a part of another.
    """
    height, width = image.shape[:2]
    frames = list(tile_frames(height, width, tile, overlap))
    found = []
    for x0, y0, x1, y1 in frames:
        instances = detector(np.ascontiguousarray(image[y0:y1, x0:x1]))["instances"]
        instances = instances[instances.scores >= score_thresh]
        boxes = instances.pred_boxes.tensor
        moved = Boxes(boxes + torch.tensor([x0, y0, x0, y0]).to(boxes))
        fields = instances.get_fields() | {"pred_boxes": moved}
        found.append(Instances((height, width), **fields))
    counts = torch.tensor([len(x) for x in found])
    tiles = torch.tensor(frames, dtype=torch.float32).repeat_interleave(counts, dim=0)
    return merge(Instances.cat(found), tiles, NMS_THRESH)


def merge(instances: Instances, tiles: Tensor, nms_thresh: float) -> Instances:
    """Make of K detections, and the tiles (K, 4) that each was seen in, the objects of their image,
    best first.

    Detections that no tile cuts come first, then cut ones, both by score. Each takes with it those
    of its class, seen in other tiles, whose :func:`common_iou` with it is above ``nms_thresh``, in
    (0, 1). A cut border moves outwards to where one of these has it, with what is said of that one;
    everything else is that of the detection itself.
    """
    boxes, tiles = instances.pred_boxes.tensor.clone(), tiles.to(instances.scores).clone()
    names = [x for x in ("border_scores", "border_stds") if instances.has(x)]
    # (K, 4, F) of the fields that are about borders
    of_borders = (instances.get(x).reshape(-1, 4) for x in names)
    borders = torch.stack([boxes, *of_borders], dim=-1)[..., 1:]
    is_cut = cut_borders(boxes, tiles, instances.image_size)
    by_score = instances.scores.argsort(descending=True, stable=True)
    order = by_score[is_cut.any(1)[by_score].to(torch.uint8).argsort(stable=True)]
    is_left = torch.ones(len(order), dtype=torch.bool, device=order.device)
    seen_in = tiles.clone()  # of an object in parts, the frame of all tiles that saw one
    kept = []
    for i in order.tolist():
        if not is_left[i]:
            continue
        kept.append(i)
        is_left[i] = False
        others = instances.pred_classes == instances.pred_classes[i]
        others &= (tiles != tiles[i]).any(1)
        while True:
            same = others & is_left & (common_iou(boxes[i], seen_in[i], boxes, tiles) > nms_thresh)
            if not same.any():
                break
            is_left &= ~same
            for j in same.nonzero()[:, 0].tolist():
                _extend(boxes, seen_in, is_cut, borders, i, j)
    kept = torch.tensor(kept, dtype=torch.int64, device=order.device)
    kept = kept[instances.scores[kept].argsort(descending=True, stable=True)]
    merged = instances[kept]
    merged.pred_boxes = Boxes(boxes[kept])
    for name, values in zip(names, borders[kept].unbind(-1), strict=True):
        merged.set(name, values)
    return merged


def cut_borders(boxes: Tensor, tiles: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Tell which borders (K, 4) of the boxes (K, 4) are where the tile of each, (K, 4), ends and
    the image, of that height and width, goes on."""
    height, width = image_size
    sides = (tiles[:, 2:] - tiles[:, :2]).repeat(1, 2)  # (K, 4) width, height, width, height
    is_near = (boxes - tiles).abs() <= CUT_MARGIN * sides
    ends = torch.tensor([0, 0, width, height]).to(tiles)
    return is_near & (tiles != ends)


def common_iou(box: Tensor, tile: Tensor, boxes: Tensor, tiles: Tensor) -> Tensor:
    """Compute the IoU (K,) of a box and others, (4,) and (K, 4), of each pair what is in both of
    their tiles; 0 where one of the two has nothing there."""
    ours, theirs = _clip(box.expand_as(tiles), tiles), _clip(boxes, tile.expand_as(boxes))
    overlap = _area(_clip(ours, theirs))
    return overlap / (_area(ours) + _area(theirs) - overlap).clamp(min=1e-9)


def _clip(boxes: Tensor, frames: Tensor) -> Tensor:
    start = torch.maximum(boxes[:, :2], frames[:, :2])
    return torch.cat([start, torch.minimum(boxes[:, 2:], frames[:, 2:])], dim=1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _extend(
    boxes: Tensor, seen_in: Tensor, is_cut: Tensor, borders: Tensor, i: int, j: int
) -> None:
    """Let the cut borders of detection ``i`` reach as far as those of ``j``, in place."""
    outwards = torch.tensor([-1, -1, 1, 1]).to(boxes)
    moves = is_cut[i] & ((boxes[j] - boxes[i]) * outwards > 0)
    if is_cut[i].any():
        seen_in[i, :2] = torch.minimum(seen_in[i, :2], seen_in[j, :2])
        seen_in[i, 2:] = torch.maximum(seen_in[i, 2:], seen_in[j, 2:])
    boxes[i] = boxes[j].where(moves, boxes[i])
    is_cut[i] = is_cut[j].where(moves, is_cut[i])
    borders[i] = borders[j].where(moves[:, None], borders[i])
