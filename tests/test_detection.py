"""Detections (equation 3) and their rescaling: worked-out numbers, the reference, odd inputs."""

import math

import pytest
import reference
import torch
from builders import (
    build_scopenet,
    map_sizes,
    random_boxes,
    random_predictions,
    reference_settings,
)
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, ImageList, Instances
from torchvision.ops import nms

from scopenet.modeling.bins import decode_distances
from scopenet.modeling.detection import best_after_nms, detect, rank_within
from scopenet.modeling.postprocess import rescale_detections

FIELDS = {"pred_boxes", "scores", "pred_classes", "cls_scores", "loc_scores", "border_scores"}


def detections_of(model, predictions, image_sizes):
    """What ``forward_inference`` finds; of the images it uses nothing but their sizes."""
    images = ImageList(torch.zeros(len(image_sizes), 3, 1, 1), image_sizes)
    with torch.no_grad():
        return model.forward_inference(images, [], predictions)


def assert_same(first: Instances, second: Instances):
    """All fields are equal but for the last bit, in which vectorized functions may round the end
    of a tensor differently."""
    assert len(first) == len(second)
    for name in FIELDS:
        ours, theirs = (x.get(name) for x in (first, second))
        if isinstance(ours, Boxes):
            ours, theirs = ours.tensor, theirs.tensor
        torch.testing.assert_close(
            ours, theirs, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_equals_reference(found: Instances, expected: list[dict]):
    assert set(found.get_fields()) == FIELDS
    assert found.pred_classes.tolist() == [x["class"] for x in expected]
    for name, key, tolerance in [
        ("scores", "score", 1e-5),
        ("cls_scores", "cls_score", 1e-5),
        ("loc_scores", "loc_score", 1e-5),
        ("border_scores", "border_scores", 1e-5),
        ("pred_boxes", "box", 1e-3),  # px; float32 has steps of 1e-4 where the longest borders end
    ]:
        values = found.get(name)
        values = values.tensor if isinstance(values, Boxes) else values
        wanted = torch.tensor([x[key] for x in expected]).reshape(values.shape)
        torch.testing.assert_close(
            values, wanted, rtol=1e-5, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


# --- worked example -----------------------------------------------------------------------------

EXAMPLE = {
    "uncertainty": True,
    "decoding": "best_bin",
    "guided_score": True,
    "score_thresh": 0.05,
    "topk_candidates": 10,
    "nms_thresh": 0.5,
    "max_detections": 10,
}


def worked_example():
    """One level of 8 x 8 cells of stride 8, two classes, two bins with anchors of 4 and 8 px.

    Only the cell (3, 4), at (36, 28), has a class logit above the threshold. Its borders decode to
    l = 4 · 2, t = 8 · 1, r = 8 / 2, b = 4 · 3, and each is sure to another degree.
    """
    cls_logits = torch.full((2, 8, 8), -9.0)
    cls_logits[1, 3, 4] = math.log(4)  # p_cls = 0.8
    bin_logits, deltas = torch.zeros(12, 8, 8), torch.full((8, 8, 8), 5.0)
    bin_logits[:, 3, 4] = torch.tensor(
        [
            *(2 * math.log(3), 0.0, math.log(2)),  # l: ln 3 after division by σ² = 2, p = 3/4
            *(0.0, math.log(4), 0.0),  # t: p = 4/5 in the second bin
            *(0.0, math.log(9) / 2, -math.log(2)),  # r: σ² = 1/2, p = 9/10 in the second bin
            *(math.log(1.5), 0.0, 0.0),  # b: p = 3/5
        ]
    )
    chosen = {0: math.log(2), 3: 0.0, 5: -math.log(2), 6: math.log(3)}
    for channel, delta in chosen.items():
        deltas[channel, 3, 4] = delta
    return [cls_logits], [bin_logits], [deltas], torch.tensor([[2.0, 3.0]]), (8,)


def test_worked_example():
    found = detect(*worked_example(), torch.tensor([64, 64]), **EXAMPLE)
    torch.testing.assert_close(found.boxes, torch.tensor([[28.0, 20.0, 40.0, 40.0]]))
    assert found.classes.tolist() == [1]
    torch.testing.assert_close(found.border_scores, torch.tensor([[0.75, 0.8, 0.9, 0.6]]))
    torch.testing.assert_close(found.cls_scores, torch.tensor([0.8]))
    torch.testing.assert_close(found.loc_scores, torch.tensor([0.7625]))  # 3.05 / 4
    torch.testing.assert_close(found.scores, torch.tensor([0.61]))


def test_worked_example_with_plain_class_scores():
    found = detect(*worked_example(), torch.tensor([64, 64]), **EXAMPLE | {"guided_score": False})
    torch.testing.assert_close(found.scores, torch.tensor([0.8]))
    torch.testing.assert_close(found.loc_scores, torch.tensor([0.7625]))


def test_worked_example_without_uncertainty():
    found = detect(*worked_example(), torch.tensor([64, 64]), **EXAMPLE | {"uncertainty": False})
    # l: 9 / (9 + 1); r: 3 / (3 + 1)
    torch.testing.assert_close(found.border_scores, torch.tensor([[0.9, 0.8, 0.75, 0.6]]))


def test_worked_example_with_expected_borders():
    maps = worked_example()
    maps[2][0][:, 3, 4] = torch.tensor([0.0, 1.0, -1.0, 0.5, 9.0, 0.0, 0.0, 0.0])
    found = detect(*maps, torch.tensor([640, 640]), **EXAMPLE | {"decoding": "expectation"})
    # Log distances of the two bins, weighted by 3/4 + 1/4, 1/5 + 4/5, 1/10 + 9/10, 3/5 + 2/5; the
    # delta of 9 is clamped to ln 62.5.
    near, far = math.log(4), math.log(8)
    left = 0.75 * near + 0.25 * (far + 1)
    top = 0.2 * (near - 1) + 0.8 * (far + 0.5)
    right = 0.1 * (near + math.log(62.5)) + 0.9 * far
    bottom = 0.6 * near + 0.4 * far
    left, top, right, bottom = (math.exp(x) for x in (left, top, right, bottom))
    expected = torch.tensor([[36 - left, 28 - top, 36 + right, 28 + bottom]])
    torch.testing.assert_close(found.boxes, expected)
    torch.testing.assert_close(found.border_scores, torch.tensor([[0.75, 0.8, 0.9, 0.6]]))


def test_expected_borders_do_not_jump_where_bins_are_equally_probable():
    def right_border(decoding, logit):
        maps = worked_example()
        maps[1][0][6:9, 3, 4] = torch.tensor([0.0, logit, 0.0])  # of r; its anchors are 4 and 8 px
        maps[2][0][4:6, 3, 4] = 0.0
        options = EXAMPLE | {"decoding": decoding, "score_thresh": 0.0}
        boxes = detect(*maps, torch.tensor([64, 64]), **options).boxes
        return boxes[0, 2].item() - 36

    assert right_border("best_bin", -1e-3) == pytest.approx(4)
    assert right_border("best_bin", 1e-3) == pytest.approx(8)
    for logit in (-1e-3, 1e-3):
        assert right_border("expectation", logit) == pytest.approx(math.sqrt(32), abs=1e-2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_expected_borders_want_every_delta_finite(bad):
    maps = worked_example()
    assert len(detect(*maps, torch.tensor([64, 64]), **EXAMPLE).boxes) == 1
    maps[2][0][1, 3, 4] = bad  # of l, in the bin that is not the best
    found = detect(*maps, torch.tensor([64, 64]), **EXAMPLE | {"decoding": "expectation"})
    assert len(found.boxes) == 0


def test_boxes_are_clipped_to_height_and_width():
    found = detect(*worked_example(), torch.tensor([30, 39]), **EXAMPLE)
    torch.testing.assert_close(found.boxes, torch.tensor([[28.0, 20.0, 39.0, 30.0]]))
    for outside in [(20, 64), (64, 28)]:  # ends where the box begins
        assert len(detect(*worked_example(), torch.tensor(outside), **EXAMPLE).boxes) == 0


@pytest.mark.parametrize("threshold, count", [(0.609, 1), (0.611, 0)])
def test_threshold_applies_to_the_guided_score(threshold, count):
    found = detect(
        *worked_example(), torch.tensor([64, 64]), **EXAMPLE | {"score_thresh": threshold}
    )
    assert len(found.scores) == count


def test_a_score_at_the_threshold_is_dropped():
    maps = worked_example()
    maps[0][0][1, 3, 4] = 0.0  # p_cls is exactly 1/2
    options = EXAMPLE | {"guided_score": False}
    at = detect(*maps, torch.tensor([64, 64]), **options | {"score_thresh": 0.5})
    below = detect(*maps, torch.tensor([64, 64]), **options | {"score_thresh": 0.49999})
    assert len(at.scores) == 0
    assert below.scores.tolist() == [0.5]


# --- against the reference ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guided_score": False},
        {"uncertainty": False},
        {"decoding": "expectation"},
        {"decoding": "expectation", "uncertainty": False, "num_bins": 3},
        {"uncertainty": False, "guided_score": False},
        {"num_bins": 1},
        {"num_bins": 1, "uncertainty": False},
        {"num_bins": 3, "bin_size": 1.25},
        {"num_classes": 1},
        {"num_classes": 7},
        {"test_topk_candidates": 3},
        {"max_detections_per_image": 5},
        {"test_nms_thresh": 0.2},
        {"test_nms_thresh": 0.9, "max_detections_per_image": 1000},
        {"test_score_thresh": 0.3},
        {"test_score_thresh": 0.0, "test_topk_candidates": 60, "strides": (16, 32)},
        {"strides": (16,)},
    ],
    ids=str,
)
def test_equals_the_reference(options):
    model = build_scopenet(**{"strides": (8, 16, 32)} | options)
    generator = torch.Generator().manual_seed(0)
    offset = model.log2_anchor_offset
    offset.data = 0.3 * torch.randn(offset.shape, generator=generator)
    predictions = random_predictions(model, map_sizes(model, 96, 128), num_images=2, seed=1)
    image_sizes = [(96, 101), (77, 128)]
    found = detections_of(model, predictions, image_sizes)
    settings = reference_settings(model, options.get("bin_size", 1.0))
    expected = reference.detections(settings, model.log2_anchors, *predictions, image_sizes)
    for instances, items, image_size in zip(found, expected, image_sizes, strict=True):
        assert instances.image_size == image_size
        assert len(items) >= 5
        assert_equals_reference(instances, items)
        assert instances.scores.tolist() == sorted(instances.scores.tolist(), reverse=True)


def test_equals_the_reference_where_outputs_are_not_finite():
    model = build_scopenet((8, 16))
    predictions = random_predictions(model, [(8, 8), (4, 4)], seed=2)
    generator = torch.Generator().manual_seed(3)
    for maps in predictions:
        for x in maps:
            for value in (math.nan, math.inf, -math.inf):
                x[torch.rand(x.shape, generator=generator) < 0.01] = value
    (found,) = detections_of(model, predictions, [(64, 64)])
    settings = reference_settings(model)
    (expected,) = reference.detections(settings, model.log2_anchors, *predictions, [(64, 64)])
    assert len(expected) >= 5
    assert_equals_reference(found, expected)


def test_decoding_is_that_of_the_losses():
    """A detection's borders are A · e^t of the best bins, at the location they came from."""
    model = build_scopenet((16,), num_classes=1, test_nms_thresh=1.0)
    predictions = random_predictions(model, [(3, 3)], seed=4, outliers=0.0)
    predictions[0][0].fill_(-9.0)[0, 0, 1, 2] = 2.0  # at (40, 24)
    (found,) = detections_of(model, predictions, [(4096, 4096)])
    scores, deltas = (x[0][0, :, 1, 2] for x in predictions[1:])
    best = scores.unflatten(0, (4, 6))[:, :5].argmax(-1)
    distances = decode_distances(
        model.log2_anchors[0][best], deltas.unflatten(0, (4, 5))[range(4), best]
    )
    left, top, right, bottom = distances.tolist()
    expected = torch.tensor([[40 - left, 24 - top, 40 + right, 24 + bottom]]).clamp(min=0)
    torch.testing.assert_close(found.pred_boxes.tensor, expected)


# --- odd inputs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["class", "bin", "delta"])
@pytest.mark.parametrize("guided_score", [True, False])
def test_a_place_with_a_bad_output_is_dropped_alone(kind, value, guided_score):
    options = {"test_score_thresh": 0.0, "max_detections_per_image": 1000}
    options["test_topk_candidates"] = 40  # of 192: a bad place must not take one of them
    model = build_scopenet((8, 16), guided_score=guided_score, **options)
    predictions = random_predictions(model, [(8, 8), (4, 4)], seed=5)
    clean = [[x.clone() for x in maps] for maps in predictions]
    predictions[0][0][0, :, 2:4, 3] = 4.0
    bad = predictions[("class", "bin", "delta").index(kind)]
    bad[0][0, :, 2:4, 3] = value
    clean[0][0][0, :, 2:4, 3] = -math.inf  # never a detection
    (found,), (expected,) = (detections_of(model, x, [(64, 64)]) for x in (predictions, clean))
    assert_same(found, expected)
    assert len(found) > 20


def test_a_bad_class_logit_drops_only_that_class():
    model = build_scopenet((16,), test_score_thresh=0.0, test_nms_thresh=1.0)
    predictions = random_predictions(model, [(2, 2)], seed=6)
    (before,) = detections_of(model, predictions, [(32, 32)])
    predictions[0][0][0, 1, 0, 0] = math.nan
    (found,) = detections_of(model, predictions, [(32, 32)])
    assert (len(before), len(found)) == (12, 11)


def test_bad_deltas_of_bins_not_chosen_do_no_harm():
    maps = worked_example()
    expected = detect(*maps, torch.tensor([64, 64]), **EXAMPLE)
    maps[2][0][[1, 2, 4, 7], 3, 4] = math.nan
    found = detect(*maps, torch.tensor([64, 64]), **EXAMPLE)
    for name in set(found._fields) - {"border_stds"}:
        assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_bad_features_spoil_only_what_they_reach(value):
    """Two convolutions of 3 x 3 reach two cells; the other level is not reached at all."""
    model = build_scopenet((8, 16), test_score_thresh=0.0, max_detections_per_image=1000)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    features = [torch.randn(1, 3, n, n, generator=generator) for n in (8, 4)]
    with torch.no_grad():
        clean = model.head(features)
        features[0][0, :, 1, 2] = value
        predictions = model.head(features)
    clean[0][0][0, :, 0:4, 0:5] = -math.inf
    (found,), (expected,) = (detections_of(model, x, [(64, 64)]) for x in (predictions, clean))
    assert_same(found, expected)
    assert len(found) > 20


def test_nothing_finite_gives_no_detection():
    model = build_scopenet(test_score_thresh=0.0)
    for value in (math.nan, math.inf):
        predictions = random_predictions(model, map_sizes(model, 128, 128))
        predictions = [[torch.full_like(x, value) for x in maps] for maps in predictions]
        (found,) = detections_of(model, predictions, [(128, 128)])
        assert len(found) == 0
        assert set(found.get_fields()) == FIELDS
        assert found.border_scores.shape == (0, 4)


def test_extreme_deltas_are_clamped():
    maps = worked_example()
    maps[2][0][[0, 3, 5, 6], 3, 4] = torch.tensor([1e4, -1e4, 1e30, 4.2])
    found = detect(*maps, torch.tensor([10000, 10000]), **EXAMPLE)
    # 4 · 62.5 is beyond the left edge; 8 · e^-10; 8 · 62.5; 4.2 is above ln 62.5
    expected = torch.tensor([[0.0, 28 - 8 * math.exp(-10), 36 + 500.0, 28 + 250.0]])
    torch.testing.assert_close(found.boxes, expected)


def test_uncertainty_is_clamped():
    maps = worked_example()
    maps[1][0][[2, 5, 8, 11], 3, 4] = torch.tensor([100.0, -100.0, 8.0, -8.0])
    found = detect(*maps, torch.tensor([64, 64]), **EXAMPLE)
    # Softmax of 2 ln 3 / e^8 and of ln 9 / (2 e^8); the others are certain.
    expected = [1 / (1 + 9 ** -math.exp(-8)), 1, 1 / (1 + 3 ** -math.exp(-8)), 1]
    torch.testing.assert_close(found.border_scores, torch.tensor([expected]), rtol=0, atol=1e-7)


def test_threshold_zero_keeps_every_location_and_class():
    model = build_scopenet((16,), test_score_thresh=0.0, test_nms_thresh=1.0)
    predictions = random_predictions(model, [(4, 4)], seed=8)
    predictions[0][0] -= 20  # scores around 1e-10
    (found,) = detections_of(model, predictions, [(64, 64)])
    assert len(found) == 4 * 4 * 3


def test_ties_are_broken_by_row_then_column_then_class():
    cls_logits = torch.zeros(2, 3, 3)
    maps = [cls_logits], [torch.zeros(12, 3, 3)], [torch.zeros(8, 3, 3)]
    options = EXAMPLE | {"topk_candidates": 7, "nms_thresh": 1.0}
    found = detect(*maps, torch.tensor([[1.0, 2.0]]), (8,), torch.tensor([24, 24]), **options)
    centers = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    assert centers.tolist() == [[4, 4]] * 2 + [[12, 4]] * 2 + [[20, 4]] * 2 + [[4, 12]]
    assert found.classes.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_rank_within_counts_members_of_the_same_group():
    groups = torch.tensor([2, 0, 2, 2, 1, 0])
    assert rank_within(groups, 4).tolist() == [0, 0, 1, 2, 0, 1]
    assert rank_within(groups[:0], 4).tolist() == []


def test_ties_between_bins_go_to_the_first():
    maps = worked_example()
    maps[1][0].zero_()
    maps[2][0].zero_()
    found = detect(*maps, torch.tensor([64, 64]), **EXAMPLE)
    torch.testing.assert_close(found.boxes, torch.tensor([[32.0, 24.0, 40.0, 32.0]]))


def test_suppression_is_per_class_and_over_all_levels():
    """Three equal boxes: one class at two levels, and another class."""
    cls_logits = [torch.full((2, 4, 4), -9.0), torch.full((2, 2, 2), -9.0)]
    bin_logits = [torch.zeros(8, 4, 4), torch.zeros(8, 2, 2)]
    deltas = [torch.zeros(4, 4, 4), torch.zeros(4, 2, 2)]
    cls_logits[0][0, 1, 1] = 1.0  # at (12, 12)
    cls_logits[0][1, 1, 1] = 0.0
    cls_logits[1][0, 0, 0] = 2.0  # at (8, 8), moved to the same box
    deltas[1][:, 0, 0] = torch.tensor([-math.log(2), -math.log(2), math.log(1.5), math.log(1.5)])
    anchors = torch.tensor([[2.0], [3.0]])
    found = detect(
        cls_logits, bin_logits, deltas, anchors, (8, 16), torch.tensor([32, 32]), **EXAMPLE
    )
    # (8, 8) - 8 / 2 = 4 and (8, 8) + 8 · 1.5 = 20; (12, 12) ± 4 = [8, 16]: IoU 64 / 256
    assert found.classes.tolist() == [0, 0, 1]
    overlapping = EXAMPLE | {"nms_thresh": 0.2}
    found = detect(
        cls_logits, bin_logits, deltas, anchors, (8, 16), torch.tensor([32, 32]), **overlapping
    )
    assert found.classes.tolist() == [0, 1]
    torch.testing.assert_close(found.boxes, torch.tensor([[4.0, 4, 20, 20], [8, 8, 16, 16]]))


@pytest.mark.parametrize(
    "spread",
    # Boxes that hardly overlap: the best 40 leave 10. Nearly equal boxes: all 500 are needed.
    [3000.0, 0.5],
)
def test_best_after_nms_are_those_of_all_boxes(spread):
    generator = torch.Generator().manual_seed(9)
    corners = spread * torch.rand(500, 2, generator=generator)
    boxes = torch.cat([corners, corners + 20], dim=1)
    boxes[470:] += 5000 + 100 * torch.arange(30)[:, None]
    scores = 0.01 + torch.rand(500, generator=generator)
    scores[100:110] = scores[100]  # ties
    scores[470:] = torch.linspace(0.01, 0, 30)  # the worst, and far from the others
    classes = torch.randint(3, (500,), generator=generator)
    expected = batched_nms(boxes, scores, classes, 0.5)[:10]
    found = best_after_nms(boxes, scores, classes, 0.5, max_detections=10)
    assert len(found) == 10 and torch.equal(found, expected)
    assert (scores[found[-1]] < 0.01) == (spread < 1)


@pytest.mark.parametrize("count, expected", [(0, []), (1, [0]), (60, [59, 58])])
def test_best_after_nms_of_few_boxes(count, expected):
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(count, 1)
    scores, classes = torch.linspace(0.1, 0.9, count), torch.arange(count) % 2
    found = best_after_nms(boxes, scores, classes, 0.5, max_detections=10)
    assert found.tolist() == expected


# --- batches and rescaling ----------------------------------------------------------------------


def test_an_image_does_not_depend_on_its_batch():
    model = build_scopenet((8, 16, 32))
    predictions = random_predictions(model, map_sizes(model, 96, 96), num_images=3, seed=9)
    image_sizes = [(96, 90), (50, 96), (96, 96)]
    found = detections_of(model, predictions, image_sizes)
    for i, image_size in enumerate(image_sizes):
        one = [[x[i : i + 1] for x in maps] for maps in predictions]
        (alone,) = detections_of(model, one, [image_size])
        assert_same(found[i], alone)
        assert len(alone) > 10


def random_detections(num_boxes=40, height=120, width=90):
    """Instances as ``forward_inference`` gives them, with boxes clipped to the image."""
    generator = torch.Generator().manual_seed(10)
    boxes = Boxes(random_boxes(num_boxes, height, width, seed=10))
    boxes.clip((height, width))
    return Instances(
        (height, width),
        pred_boxes=boxes,
        scores=torch.rand(num_boxes, generator=generator).sort(descending=True)[0],
        pred_classes=torch.randint(3, (num_boxes,), generator=generator),
        cls_scores=torch.rand(num_boxes, generator=generator),
        loc_scores=torch.rand(num_boxes, generator=generator),
        border_scores=torch.rand(num_boxes, 4, generator=generator),
    )


@pytest.mark.parametrize("output_size", [(120, 90), (240, 45), (37, 301)])
def test_rescaling_equals_the_reference(output_size):
    detections = random_detections()
    before = Instances(
        detections.image_size,
        **detections.get_fields() | {"pred_boxes": detections.pred_boxes.clone()},
    )
    rescaled = rescale_detections(detections, *output_size)
    assert_same(detections, before)
    assert rescaled.image_size == output_size
    items = [
        {
            "box": detections.pred_boxes.tensor[i].tolist(),
            "score": detections.scores[i].item(),
            "class": detections.pred_classes[i].item(),
            "cls_score": detections.cls_scores[i].item(),
            "loc_score": detections.loc_scores[i].item(),
            "border_scores": detections.border_scores[i].tolist(),
        }
        for i in range(len(detections))
    ]
    assert_equals_reference(rescaled, reference.rescale(items, (120, 90), output_size))


def test_rescaling_drops_what_is_empty_with_all_its_fields():
    detections = random_detections(3)
    detections.pred_boxes.tensor[1] = torch.tensor([91.0, 10, 99, 50])  # of a width of 90 px
    rescaled = rescale_detections(detections, 120, 9)
    expected = rescale_detections(detections[[0, 2]], 120, 9)
    assert len(rescaled) == 2
    assert_same(rescaled, expected)


def test_nms_of_many_classes_is_that_of_each_class():
    # Beside each other, the places of 1203 classes of 4000 px are beyond what float32 resolves.
    generator = torch.Generator().manual_seed(0)
    corners = 3900 * torch.rand(3000, 2, generator=generator)
    boxes = torch.cat([corners, corners + 5 + 60 * torch.rand(3000, 2, generator=generator)], 1)
    boxes = torch.cat([boxes, boxes + 4 * torch.rand(3000, 4, generator=generator)])
    scores = torch.rand(6000, generator=generator)
    classes = torch.randint(1203, (3000,), generator=generator).repeat(2)
    expected = []
    for k in classes.unique():
        (of_class,) = (classes == k).nonzero(as_tuple=True)
        expected += of_class[nms(boxes[of_class], scores[of_class], 0.5)].tolist()
    found = best_after_nms(boxes, scores, classes, 0.5, 6000)
    assert len(expected) < 5000 and sorted(found.tolist()) == sorted(expected)
