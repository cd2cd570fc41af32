"""Label assignment (section 3.2): worked-out cases, and equality with the reference's loops."""

import cv2
import numpy as np
import pytest
import reference
import torch
from builders import STRIDES, build_scopenet, ground_truth, map_sizes, random_boxes
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scopenet.modeling.assignment import assign_locations, border_distances
from scopenet.modeling.bins import level_ranges


def assign(boxes_per_image, strides, boundaries, sizes, radius_cls=1.5, radius_loc=2.0):
    """Positives of a batch; ``boxes_per_image`` holds lists or tensors of XYXY boxes, px."""
    boxes = [torch.as_tensor(x, dtype=torch.float32).reshape(-1, 4) for x in boxes_per_image]
    counts = torch.tensor([len(x) for x in boxes])
    return assign_locations(
        torch.cat(boxes),
        torch.repeat_interleave(counts),
        len(boxes),
        sizes,
        strides,
        level_ranges(boundaries),
        radius_cls=radius_cls,
        radius_loc=radius_loc,
    )


def as_dict(positives):
    """(level, image, row, column) -> (box, is_cls), of positives that must be in that order."""
    places = list(zip(*(x.tolist() for x in positives[:4]), strict=True))
    assert places == sorted(set(places))
    labels = zip(positives.box.tolist(), positives.is_cls.tolist(), strict=True)
    return dict(zip(places, labels, strict=True))


def reference_dict(boxes_per_image, strides, boundaries, sizes, radius_cls=1.5, radius_loc=2.0):
    settings = reference.Settings(
        num_classes=1,
        strides=tuple(strides),
        level_boundaries=tuple(boundaries),
        center_radius_cls=radius_cls,
        center_radius_loc=radius_loc,
    )
    expected, first_box = {}, 0
    for image, boxes in enumerate(boxes_per_image):
        for level, labels in enumerate(reference.assign(settings, sizes, boxes)):
            for cell, label in enumerate(labels):
                if label is not None:
                    place = (level, image, cell // sizes[level][1], cell % sizes[level][1])
                    expected[place] = (first_box + label[0], label[1])
        first_box += len(boxes)
    return expected


def cells(positives):
    """(row, column) of the positives of a batch of one image and one level."""
    return list(zip(positives.row.tolist(), positives.column.tolist(), strict=True))


# --- equality with the loops over locations and boxes -------------------------------------------


def around(center, widths, heights=None):
    """Boxes of these sizes around one centre (x, y)."""
    heights = widths if heights is None else heights
    x, y = center
    return [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in zip(widths, heights, strict=True)
    ]


BOXES = {
    "random": random_boxes(12, 256, 320, seed=1),
    "random_many_small": random_boxes(30, 64, 64, seed=2),
    "random_on_whole_pixels": random_boxes(12, 256, 320, seed=3).round(),
    "nested": around((133.0, 121.0), [240, 200, 120, 100, 60, 44, 30, 20, 10]),
    "nested_small_first": around((133.0, 121.0), [10, 20, 30, 44, 60, 100, 120, 200, 240]),
    "identical": around((100.0, 60.0), [50, 90]) * 3,
    "equal_areas": around((90.0, 90.0), [40, 80, 20, 60], [40, 20, 80, 80 / 3]),
    "equal_areas_shifted": around((92.0, 60.0), [64]) + around((100.0, 60.0), [64]),
    "tiny": around((52.0, 68.0), [0.5]) + around((100.1, 99.9), [1.0]) + around((20.5, 20), [3.0]),
    "huge": around((160.0, 128.0), [3000, 900, 5000], [2500, 900, 300]),
    "outside": [
        [-50, -60, -4, -10],
        [400, 300, 500, 420],
        [-100, 20, 40, 200],
        [300, 200, 420, 340],
        [-2.0, 90, 3.9, 110],
    ],
    "degenerate": [
        [50, 50, 50, 90],
        [40, 60, 100, 60],
        [100, 100, 60, 60],
        [4 - 2e-6, 40, 4 + 2e-6, 90],
        [44, 44, 44, 44],
        [30, 40, 70, 90],
    ],
    "on_cell_borders": [[32, 32, 64, 64], [64, 32, 96, 96], [0, 0, 320, 256], [128, 128, 136, 136]],
    "on_cell_centres": [[36, 36, 100, 100], [36, 36, 52, 60], [44, 44, 60, 60], [4, 4, 12, 12]],
}


@pytest.mark.parametrize("kind", BOXES)
def test_equals_the_reference(kind):
    batch = [BOXES[kind]]
    arguments = (STRIDES, (64, 128, 256, 512), [(32, 40), (16, 20), (8, 10), (4, 5), (2, 3)])
    labels = as_dict(assign(batch, *arguments))
    assert labels == reference_dict(batch, *arguments)
    # Guards against a comparison of nothing with nothing.
    assert len(labels) >= {"tiny": 1, "huge": 1, "outside": 2}.get(kind, 4)


@pytest.mark.parametrize("radii", [(1.5, 2.0), (1.0, 1.0), (0.5, 2.75), (1.3, 3.1)])
def test_equals_the_reference_in_coarse_levels_and_for_other_radii(radii):
    batch = [random_boxes(12, 896, 1024, seed=4), [], random_boxes(9, 896, 1024, seed=5)]
    arguments = ((32, 64, 128), (256, 512), [(28, 32), (14, 16), (7, 8)], *radii)
    labels = as_dict(assign(batch, *arguments))
    assert labels == reference_dict(batch, *arguments)
    assert {level for level, *_ in labels} == {0, 1, 2}
    assert {image for _, image, *_ in labels} == {0, 2}


def test_equals_the_reference_for_strides_that_are_no_powers_of_two():
    batch = [random_boxes(15, 240, 300, seed=6), random_boxes(15, 240, 300, seed=7)]
    arguments = ((6, 15, 30), (40, 100), [(40, 50), (16, 20), (8, 10)])
    labels = as_dict(assign(batch, *arguments))
    assert labels == reference_dict(batch, *arguments)
    assert len(labels) > 50


def test_order_of_the_boxes_only_renames_them():
    boxes = random_boxes(20, 256, 320, seed=8)
    arguments = (STRIDES, (64, 128, 256, 512), [(32, 40), (16, 20), (8, 10), (4, 5), (2, 3)])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    labels = as_dict(assign([boxes], *arguments))
    shuffled = as_dict(assign([boxes[order]], *arguments))
    assert labels == {k: (int(order[box]), is_cls) for k, (box, is_cls) in shuffled.items()}


# --- borders of the conditions ------------------------------------------------------------------


def test_distances_are_in_the_order_left_top_right_bottom():
    distances = border_distances(torch.tensor([10.0, 20.0]), torch.tensor([9.0, 18.0, 13.0, 24.0]))
    assert distances.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("level", range(4))
def test_a_distance_at_a_boundary_belongs_to_the_upper_level(level):
    boundary, sizes = 8 * STRIDES[level], [(1024 // s, 1024 // s) for s in STRIDES]
    just_below = boundary - 2.0**-10  # exact in float32, as are the coordinates made of it

    def levels_of(distance, at_level):
        """Levels at which the location at (608, 608) or near it is a positive."""
        stride = STRIDES[at_level]
        row = 608 // stride
        x = (row + 0.5) * stride
        box = [x - distance, x - 0.5 * boundary, x + boundary - stride, x + 0.5 * boundary]
        labels = as_dict(assign([[box]], STRIDES, (64, 128, 256, 512), sizes))
        return (at_level, 0, row, row) in labels

    assert levels_of(just_below, level)
    assert not levels_of(boundary, level)
    assert levels_of(boundary, level + 1)
    assert not levels_of(just_below, level + 1)


@pytest.mark.parametrize(
    "offset, is_cls",
    [
        (12 - 2**-10, {(6, 6): True}),
        (12, {(6, 6): False}),
        (16 - 2**-10, {(6, 6): False}),
        (16, {}),
    ],
)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_radii_are_strict(offset, is_cls, sign, axis):
    # The cell (6, 6) of stride 8 is at (52, 52); the box centre is that far away along one axis.
    center = [52.0, 52.0]
    center[axis] += sign * offset
    labels = as_dict(assign([around(center, [60.0])], (8,), (), [(32, 32)]))
    assert {k[2:]: v[1] for k, v in labels.items() if k[2:] == (6, 6)} == is_cls


def test_locations_on_a_border_are_outside():
    # Cell centres of stride 8 at 36, 44, 52, 60: only 44 and 52 are strictly inside.
    positives = assign([[[36, 36, 60, 60]]], (8,), (), [(16, 16)])
    assert cells(positives) == [(5, 5), (5, 6), (6, 5), (6, 6)]
    assert positives.is_cls.all()


@pytest.mark.parametrize("half_side, num_positives", [(4e-6, 0), (8e-6, 4)])
@pytest.mark.parametrize("flip", [False, True])
def test_boxes_with_a_side_below_1e_5_px_are_passed_over(half_side, num_positives, flip):
    # Around the column of cell centres at x = 4, where float32 has steps of 5e-7.
    box = [4 - half_side, 8.0, 4 + half_side, 40.0]
    box = [box[1], box[0], box[3], box[2]] if flip else box
    assert len(assign([[box]], (8,), (), [(16, 16)]).box) == num_positives


def test_both_radii_around_a_cell_centre():
    # At 2 strides the 3 x 3 cells around, of which all are nearer than 1.5.
    positives = assign([around((52, 52), [60])], (8,), (), [(16, 16)])
    assert cells(positives) == [(i, j) for i in (5, 6, 7) for j in (5, 6, 7)]
    assert positives.is_cls.all()
    # Around the corner of four cells they are 4 x 4, and the inner 2 x 2.
    positives = assign([around((56, 56), [60])], (8,), (), [(16, 16)])
    assert cells(positives) == [(i, j) for i in range(5, 9) for j in range(5, 9)]
    near = [cell for cell, is_cls in zip(cells(positives), positives.is_cls, strict=True) if is_cls]
    assert near == [(6, 6), (6, 7), (7, 6), (7, 7)]
    assert positives.counts().tolist() == [4, 16]


# --- which box ----------------------------------------------------------------------------------


def test_a_near_centre_comes_before_a_small_area():
    # The location (52, 52) is 4 px off the centre of the big box and 14 px off that of the small.
    big, small = around((56, 52), [100]) + around((66, 52), [50])
    labels = as_dict(assign([[small, big]], (8,), (), [(16, 16)]))
    assert labels[0, 0, 6, 6] == (1, True)
    # At (60, 52) both are near, and the small box wins.
    assert labels[0, 0, 6, 7] == (0, True)


def test_one_label_serves_both_branches():
    # Where only the localization radius reaches the big box, the small one that is near wins both.
    big, small = around((66, 52), [100]) + around((52, 52), [30])
    labels = as_dict(assign([[big, small]], (8,), (), [(16, 16)]))
    assert labels[0, 0, 6, 6] == (1, True)
    assert labels[0, 0, 6, 8] == (0, True)


def test_the_first_of_equal_boxes_wins():
    labels = as_dict(assign([around((52, 52), [60, 60, 60])], (8,), (), [(16, 16)]))
    assert {box for box, _ in labels.values()} == {0}
    # 40 x 90 and 60 x 60 px² are equal, too.
    labels = as_dict(assign([around((52, 52), [60, 40], [60, 90])], (8,), (), [(16, 16)]))
    assert labels[0, 0, 6, 6] == (0, True)


@pytest.mark.parametrize("first", [0, 1])
def test_areas_closer_than_float32_can_tell(first):
    # 10000² = 1e8 and 9999 · 10001 = 1e8 - 1 px²; float32 has steps of 8 there.
    boxes = [[0, 0, 10000, 10000], [0, 0, 9999, 10001]]
    boxes = boxes[first:] + boxes[:first]
    labels = as_dict(assign([boxes], (128,), (), [(80, 80)]))
    assert len(labels) == 16  # both centres are near 39.06 strides
    assert {box for box, _ in labels.values()} == {1 - first}


# --- batches ------------------------------------------------------------------------------------


def test_images_keep_their_own_boxes():
    first_boxes, last_boxes = random_boxes(5, 128, 128, seed=9), random_boxes(7, 128, 128, seed=10)
    arguments = ((8, 16), (64,), [(16, 16), (8, 8)])
    labels = as_dict(assign([first_boxes, torch.zeros(0, 4), last_boxes], *arguments))
    first = as_dict(assign([first_boxes], *arguments))
    last = as_dict(assign([last_boxes], *arguments))
    expected = first | {
        (level, 2, row, column): (box + 5, is_cls)
        for (level, _, row, column), (box, is_cls) in last.items()
    }
    assert labels == expected
    assert len(first) > 0 and len(last) > 0


@pytest.mark.parametrize("num_images", [1, 3])
def test_a_batch_without_boxes_has_no_positives(num_images):
    positives = assign([[]] * num_images, STRIDES, (64, 128, 256, 512), [(4, 4)] * 5)
    assert positives.counts().tolist() == [0, 0]
    maps = [torch.zeros(num_images, 7, 4, 4)] * 5
    assert positives.gather(maps).shape == (0, 7)
    assert positives.centers(STRIDES).shape == (0, 2)


def test_cells_of_the_padding_take_part():
    # The box ends at the right of a 64 px image, which the map of 12 columns pads to 96 px.
    positives = assign([[[40, 0, 80, 40]]], (8,), (), [(8, 12)])
    assert 8 in positives.column.tolist()  # at x = 68


def test_gathered_values_and_centres_are_those_of_the_locations():
    strides, sizes = (8, 16, 32), [(12, 16), (6, 8), (3, 4)]
    boxes = [random_boxes(6, 96, 128, seed=11), random_boxes(6, 96, 128, seed=12)]
    positives = assign(boxes, strides, (64, 128), sizes)
    maps = []
    for level, (height, width) in enumerate(sizes):
        coordinates = torch.meshgrid(
            torch.tensor([level]),
            torch.arange(2),
            torch.arange(height),
            torch.arange(width),
            indexing="ij",
        )
        maps.append(torch.cat([x.reshape(2, 1, height, width) for x in coordinates], dim=1))
    assert torch.equal(positives.gather(maps), torch.stack(positives[:4], dim=1))
    assert set(positives.level.tolist()) == {0, 1, 2}

    centers = positives.centers(strides)
    stride = torch.tensor(strides)[positives.level]
    assert torch.equal(centers[:, 0], (positives.column + 0.5) * stride)
    assert torch.equal(centers[:, 1], (positives.row + 0.5) * stride)


def test_crowd_annotations_give_no_positives(tmp_path):
    file_name = str(tmp_path / "image.png")
    cv2.imwrite(file_name, np.full((128, 160, 3), 90, dtype=np.uint8))
    boxes = [[10, 12, 60, 70], [80, 30, 150, 110], [40, 60, 100, 120]]
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": i, "iscrowd": int(i == 1)}
        for i, box in enumerate(boxes)
    ]
    record = {"file_name": file_name, "height": 128, "width": 160, "annotations": annotations}
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")
    model = build_scopenet()

    def labels_of(record):
        instances = mapper(record)["instances"]
        predictions = model.predict([{"image": torch.zeros(3, 128, 160)}])[2]
        return as_dict(model.label_locations(predictions, [instances])), instances

    labels, instances = labels_of(record)
    assert instances.gt_classes.tolist() == [0, 2]
    expected = [boxes[0], boxes[2]]
    assert labels == reference_dict(
        [expected], STRIDES, (64, 128, 256, 512), map_sizes(model, 128, 256)
    )
    assert {box for box, _ in labels.values()} == {0, 1}
    only_crowd = record | {"annotations": [annotations[1]]}
    assert labels_of(only_crowd)[0] == {}


def test_model_passes_its_radii_and_ranges():
    model = build_scopenet((8, 16), center_radius_cls=1.0, center_radius_loc=2.5)
    boxes = [random_boxes(6, 96, 128, seed=13), random_boxes(3, 96, 128, seed=14)]
    predictions = model.predict([{"image": torch.zeros(3, 96, 128)}] * 2)[2]
    instances = [ground_truth(x, [0] * len(x)) for x in boxes]
    expected = reference_dict(boxes, (8, 16), (64,), [(12, 16), (6, 8)], 1.0, 2.5)
    assert as_dict(model.label_locations(predictions, instances)) == expected


# --- equality with all pairs of boxes and locations, for very many boxes ------------------------


def dense_assignment(boxes, sizes, radius_cls=1.5, radius_loc=2.0):
    """(level, row, column) -> (box, is_cls), from all pairs of the boxes (M, 4) and the locations
    of ``sizes``, by the sentences of section 3.2."""
    labels = {}
    for level, (height, width) in enumerate(sizes):
        stride = np.float32(STRIDES[level])
        low, high = level_ranges((64, 128, 256, 512))[level]
        for row, column in np.ndindex(height, width):
            x, y = (column + np.float32(0.5)) * stride, (row + np.float32(0.5)) * stride
            x0, y0, x1, y1 = boxes.T
            sides = np.stack([x - x0, y - y0, x1 - x, y1 - y])
            off = np.maximum(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2))
            fits = (sides.min(0) > 0) & (off < radius_loc * stride)
            fits &= (sides.max(0) >= low) & (sides.max(0) < high)
            areas = (x1 - x0).astype(np.float64) * (y1 - y0).astype(np.float64)
            for is_cls in (True, False):
                rank = np.where(fits & ((off < radius_cls * stride) == is_cls), areas, np.inf)
                if rank.min() < np.inf:
                    labels[level, row, column] = int(rank.argmin()), is_cls  # the first of equals
                    break
    return labels


def boxes_at_random(generator):
    return random_boxes(100_000, 128, 160, seed=16)


def boxes_on_cell_borders(generator):
    corners = 8 * torch.randint(-2, 18, (100_000, 2), generator=generator)
    return torch.cat(
        [corners, corners + 8 * torch.randint(1, 40, (100_000, 2), generator=generator)], dim=1
    ).float()


def boxes_of_equal_area(generator):
    centers = torch.randint(0, 320, (100_000, 2), generator=generator) / 2
    width = 2.0 ** torch.randint(2, 9, (100_000,), generator=generator)
    sides = torch.stack([width, 4096 / width], dim=1)
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=1)


@pytest.mark.parametrize("make", [boxes_at_random, boxes_on_cell_borders, boxes_of_equal_area])
def test_equals_all_pairs_for_100000_boxes(make):
    boxes, sizes = (
        make(torch.Generator().manual_seed(17)),
        [(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)],
    )
    labels = as_dict(assign([boxes], STRIDES, (64, 128, 256, 512), sizes))
    expected = dense_assignment(boxes.numpy(), sizes)
    assert {(level, i, j): label for (level, _, i, j), label in labels.items()} == expected
    assert len(expected) > 100


# --- size ---------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


def test_no_matrix_of_boxes_times_locations():
    num_boxes, sizes = 20000, [(-(-800 // s), 1344 // s) for s in STRIDES]
    boxes = random_boxes(num_boxes, 800, 1344, seed=15)
    with LargestTensor() as largest:
        positives = assign([boxes], STRIDES, (64, 128, 256, 512), sizes)
    # Four distances to 4 x 4 cells in each of five levels; R is 22400 here.
    assert largest.numel <= num_boxes * 5 * 4**2 * 4
    assert len(positives.box) > 10000
