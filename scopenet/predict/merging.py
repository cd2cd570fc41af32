"""Detections of overlapping tiles as detections of the whole image, each object once.

Where two tiles overlap, both see the same objects, and each cuts those that reach beyond it. So two
detections are compared by what *both* tiles can see of them: each box is clipped to the other's
tile first. Of two tiles that see an object whole this leaves NMS as it is; a cut box is found to be
a part of the whole one, however small the part; and two parts of an object that is larger than the
overlap are found to be of one object.

K detections, directions in the order (l, t, r, b), boxes XYXY in px of the image.
"""

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

# A border this near to that of its tile, in parts of the tile's side, is taken to be cut.
CUT_MARGIN = 0.02


def cut_borders(boxes: Tensor, tiles: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Tell which borders (K, 4) of the boxes are where the tile ends and the image goes on.

    Args:
        boxes: (K, 4).
        tiles: (K, 4) XYXY px, the tile that each box was seen in.
        image_size: height and width, px.
    """
    height, width = image_size
    sides = (tiles[:, 2:] - tiles[:, :2]).repeat(1, 2)  # (K, 4) width, height, width, height
    is_near = (boxes - tiles).abs() <= CUT_MARGIN * sides
    ends = torch.tensor([0, 0, width, height]).to(tiles)
    return is_near & (tiles != ends)


def _clip(boxes: Tensor, frames: Tensor) -> Tensor:
    return torch.cat(
        [
            torch.maximum(boxes[..., :2], frames[..., :2]),
            torch.minimum(boxes[..., 2:], frames[..., 2:]),
        ],
        dim=-1,
    )


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def common_iou(box: Tensor, tile: Tensor, boxes: Tensor, tiles: Tensor) -> Tensor:
    """Compute the IoU (K,) of a box and others, of each pair what is in both of their tiles; 0
    where one of the two has nothing there.

    Args:
        box, tile: (4,).
        boxes, tiles: (K, 4).
    """
    ours, theirs = _clip(box.expand_as(tiles), tiles), _clip(boxes, tile.expand_as(boxes))
    overlap = _area(_clip(ours, theirs))
    return overlap / (_area(ours) + _area(theirs) - overlap).clamp(min=1e-9)


def merge(instances: Instances, tiles: Tensor, nms_thresh: float) -> Instances:
    """Make of what was seen in tiles the objects of their image, best first.

    Detections that no tile cuts come first, then cut ones, both by score. Each takes with it those
    of its class, seen in other tiles, whose :func:`common_iou` with it is above the threshold.
    A cut border moves outwards to where one of these has it, with that border's confidence;
    everything else is that of the detection itself.

    Args:
        instances: K detections in px of the image.
        tiles: (K, 4) XYXY px, the tile that each was seen in.
        nms_thresh: in (0, 1).
    """
    boxes, tiles = instances.pred_boxes.tensor.clone(), tiles.to(instances.scores).clone()
    borders = instances.border_scores.clone() if instances.has("border_scores") else None
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
        others = is_left & (instances.pred_classes == instances.pred_classes[i])
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
    if borders is not None:
        merged.border_scores = borders[kept]
    return merged


def _extend(
    boxes: Tensor, seen_in: Tensor, is_cut: Tensor, borders: Tensor | None, i: int, j: int
) -> None:
    """Let the cut borders of detection ``i`` reach as far as those of ``j``, in place."""
    outwards = torch.tensor([-1, -1, 1, 1]).to(boxes)
    moves = is_cut[i] & ((boxes[j] - boxes[i]) * outwards > 0)
    if is_cut[i].any():
        seen_in[i, :2] = torch.minimum(seen_in[i, :2], seen_in[j, :2])
        seen_in[i, 2:] = torch.maximum(seen_in[i, 2:], seen_in[j, 2:])
    boxes[i] = boxes[j].where(moves, boxes[i])
    is_cut[i] = is_cut[j].where(moves, is_cut[i])
    if borders is not None:
        borders[i] = borders[j].where(moves, borders[i])
