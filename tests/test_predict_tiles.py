"""Tiles of a large image, and what is seen in them as objects of the image."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from scopenet import ConfigError
from scopenet.predict.tiles import (
    check_tiling,
    common_iou,
    cut_borders,
    merge,
    predict_tiles,
    tile_frames,
)

LEFT, RIGHT = [0, 0, 100, 100], [60, 0, 160, 100]  # tiles of an image of 160 x 100 px
WHOLE = (100, 160)  # its height and width


def detections(boxes, scores, classes=None, borders=None) -> Instances:
    n = len(boxes)
    return Instances(
        WHOLE,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes or [0] * n),
        border_scores=torch.tensor(borders if borders else [[0.9] * 4] * n),
    )


def merged(boxes, scores, tiles, classes=None, borders=None) -> Instances:
    tiles = torch.tensor(tiles, dtype=torch.float32).reshape(-1, 4)
    return merge(detections(boxes, scores, classes, borders), tiles, nms_thresh=0.5)


def boxes_of(instances: Instances) -> list[list[float]]:
    return instances.pred_boxes.tensor.tolist()


def test_frames_cover_the_image_with_at_least_the_overlap():
    assert list(tile_frames(100, 160, 100, 40)) == [(0, 0, 100, 100), (60, 0, 160, 100)]
    # One tile more for one px more of overlap.
    assert [x[0] for x in tile_frames(100, 160, 100, 41)] == [0, 30, 60]
    assert list(tile_frames(30, 40, 100, 50)) == [(0, 0, 40, 30)]
    rows = sorted({(y0, y1) for _, y0, _, y1 in tile_frames(1035, 1249, 400, 100)})
    assert rows == [(0, 400), (212, 612), (423, 823), (635, 1035)]


def test_only_borders_inside_the_image_are_cut():
    boxes = torch.tensor([[0.0, 0, 99, 100], [61, 0, 160, 100], [10, 3, 97, 97]])
    tiles = torch.tensor([LEFT, RIGHT, LEFT], dtype=torch.float32)
    cut = cut_borders(boxes, tiles, WHOLE)
    assert cut.tolist() == [[False, False, True, False], [True] + [False] * 3, [False] * 4]


def test_iou_of_what_both_tiles_see():
    # Of the first box the right tile sees [60, 90]; of the second the left tile [60, 100].
    box, boxes = torch.tensor([20.0, 0, 90, 10]), torch.tensor([[60.0, 0, 120, 10]])
    left, right = torch.tensor(LEFT).float(), torch.tensor([RIGHT]).float()
    assert common_iou(box, left, boxes, right).tolist() == pytest.approx([30 / 40])
    # What is in one tile only has nothing in common with the other, however near.
    assert common_iou(torch.tensor([20.0, 0, 59, 10]), left, boxes, right).item() == 0


def test_whole_object_takes_the_place_of_its_part_though_that_has_the_higher_score():
    found = merged([[90, 20, 100, 40], [90, 20, 130, 40]], [0.9, 0.6], [LEFT, RIGHT])
    assert boxes_of(found) == [[90, 20, 130, 40]]
    assert found.scores.tolist() == pytest.approx([0.6])


def test_object_seen_whole_by_both_comes_out_once():
    found = merged([[70, 20, 90, 40], [71, 20, 91, 40]], [0.6, 0.8], [LEFT, RIGHT])
    assert boxes_of(found) == [[71, 20, 91, 40]]


def test_parts_of_an_object_larger_than_the_overlap_become_one():
    borders = [[0.91, 0.92, 0.53, 0.94], [0.51, 0.82, 0.83, 0.84]]
    found = merged([[20, 20, 99, 40], [61, 21, 140, 41]], [0.8, 0.7], [LEFT, RIGHT], None, borders)
    # Left, top and bottom are the better part's own; the right border is the other's.
    assert boxes_of(found) == [[20, 20, 140, 40]]
    assert found.border_scores[0].tolist() == pytest.approx([0.91, 0.92, 0.83, 0.94])
    assert found.scores.tolist() == pytest.approx([0.8])


def test_object_over_three_tiles():
    tiles = [[0, 0, 40, 100], [30, 0, 70, 100], [60, 0, 100, 100]]
    boxes = [[10, 5, 40, 25], [30, 5, 70, 25], [60, 5, 95, 25]]
    for scores in ([0.9, 0.8, 0.7], [0.7, 0.9, 0.8], [0.8, 0.7, 0.9]):
        assert boxes_of(merged(boxes, scores, tiles)) == [[10, 5, 95, 25]]


def test_object_that_has_reached_its_end_goes_no_further():
    # The third tile takes the last 4 px of the object for 7.
    tiles = [[0, 0, 40, 100], [30, 0, 70, 100], [60, 0, 100, 100]]
    boxes = [[10, 5, 40, 25], [30, 5, 64, 25], [60, 5, 67, 25]]
    assert boxes_of(merged(boxes, [0.9, 0.8, 0.7], tiles)) == [[10, 5, 64, 25]]


def test_object_over_the_corner_of_four_tiles():
    tiles = [[0, 0, 60, 60], [40, 0, 100, 60], [0, 40, 60, 100], [40, 40, 100, 100]]
    boxes = [[20, 10, 60, 60], [40, 10, 90, 60], [20, 40, 60, 80], [40, 40, 90, 80]]
    assert boxes_of(merged(boxes, [0.9, 0.8, 0.7, 0.6], tiles)) == [[20, 10, 90, 80]]


def test_what_is_not_the_same_object_stays():
    # Another class; a small object in front of a large one; neighbours; two of one tile, of which
    # the network itself has said that they are two.
    both = [LEFT, RIGHT]
    assert len(merged([[70, 20, 90, 40]] * 2, [0.9, 0.8], both, classes=[0, 1])) == 2
    assert len(merged([[90, 20, 100, 30], [70, 0, 150, 90]], [0.9, 0.8], both)) == 2
    assert len(merged([[40, 20, 80, 40], [81, 20, 120, 40]], [0.9, 0.8], both)) == 2
    assert len(merged([[70, 20, 90, 40], [72, 20, 90, 40]], [0.9, 0.8], [LEFT, LEFT])) == 2


def test_nothing_found():
    assert len(merged([], [], [])) == 0


def see_rectangles(image: np.ndarray) -> dict[str, Instances]:
    """Detect single-coloured rectangles: the class is the value, the score likewise."""
    found = []
    for value in np.unique(image[image > 0]):
        y, x = np.nonzero(image[:, :, 0] == value)
        found.append([x.min(), y.min(), x.max() + 1, y.max() + 1, value])
    table = torch.tensor(np.array(found, dtype=np.float32).reshape(-1, 5))
    instances = Instances(
        image.shape[:2],
        pred_boxes=Boxes(table[:, :4]),
        scores=table[:, 4] / 255,
        pred_classes=table[:, 4].long(),
    )
    return {"instances": instances}


@pytest.mark.parametrize("tile, overlap", [(64, 0), (64, 16), (50, 25), (300, 0), (1000, 10)])
def test_every_rectangle_of_a_large_image_is_found_once(tile, overlap):
    image = np.zeros((200, 300, 3), np.uint8)
    rng = np.random.default_rng(0)
    expected = {}
    for k in range(12):  # in cells of 75 x 66 px, so that none hides another
        x, y = 75 * (k % 4) + rng.integers(20), 66 * (k // 4) + rng.integers(20)
        w, h = rng.integers(10, 45, 2)
        image[y : y + h, x : x + w] = 100 + k
        expected[100 + k] = [x, y, x + w, y + h]
    options = {"tile": tile, "overlap": overlap, "score_thresh": 102 / 255}
    found = predict_tiles(see_rectangles, image, **options)
    pairs = zip(found.pred_classes.tolist(), boxes_of(found), strict=True)
    if overlap:
        assert sorted(found.pred_classes.tolist()) == list(range(102, 112))
        assert dict(pairs) == {k: expected[k] for k in range(102, 112)}
    else:  # without an overlap nothing says that two parts belong together
        assert set(found.pred_classes.tolist()) == set(range(102, 112))
    assert found.image_size == (200, 300)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_bad_tiles():
    for tile, overlap in ((0, None), (100, 100), (100, 120), (100, -1), (None, 10)):
        with pytest.raises(ConfigError, match="--tile|--overlap"):
            check_tiling(tile, overlap)
    check_tiling(None, None)
    check_tiling(100, 0)
