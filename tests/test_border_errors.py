"""Learned errors of borders: worked-out numbers, learning, and the way to the user."""

import json
import math

import numpy as np
import pytest
import torch
from builders import build_scopenet, ground_truth, map_sizes, random_predictions
from detectron2.structures import Boxes, ImageList, Instances

from scopenet.modeling.border_errors import (
    START,
    error_loss,
    error_scales,
    probability_right,
    standard_deviations,
)
from scopenet.modeling.postprocess import rescale_detections
from scopenet.modeling.test_time_augmentation import merge, mirror
from scopenet.predict.files import coco_results
from scopenet.predict.pictures import draw
from scopenet.runtime.metadata import Outputs
from scopenet.runtime.predictor import rescale

LN2 = math.log(2)


def worked_example():
    """One location, two bins that decode to 8 and 32 px; borders l, t, r, b at 8, 16, 32, 24 px.

    The probability of the nearer bin is 1, 1/2, 3/4 and 1/2: the log distances are spread by 0,
    ln 2, ln 4 √(3/16) and ln 2.
    """
    nearer = torch.tensor([[1.0, 0.5, 0.75, 0.5]])
    log_probs = torch.stack([nearer, 1 - nearer], dim=-1).clamp(min=1e-30).log()
    anchors = torch.tensor([[3.0, 4.0]])
    deltas = torch.tensor([0.0, LN2]).expand(1, 4, 2)
    return log_probs, anchors, deltas, torch.tensor([[8.0, 16.0, 32.0, 24.0]])


def test_scales_of_the_worked_example():
    found = error_scales(torch.tensor([0.5, 2.0, -1.0]), *worked_example())
    spreads = [0, LN2, 2 * LN2 * math.sqrt(3 / 16), LN2]
    doubts = [0, 0.5, 0.25, 0.5]
    sides, distances = [40, 40, 40, 40], [8, 16, 32, 24]
    expected = [
        side * math.exp(0.5) * (spread * d / side + 1e-3) ** 2 / (doubt + 1e-3)
        for spread, doubt, side, d in zip(spreads, doubts, sides, distances, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_scores_and_standard_deviations_are_those_of_a_laplace_distribution():
    distances = torch.tensor([[10.0, 30.0, 40.0, 70.0]])  # a box of 50 x 100 px
    scales = torch.tensor([[5.0, 5.0, 1.0, 20.0]])
    errors = torch.distributions.Laplace(torch.zeros(1, 4), scales)
    allowed = torch.tensor([[5.0, 10.0, 5.0, 10.0]])  # a tenth of the sides
    expected = errors.cdf(allowed) - errors.cdf(-allowed)
    torch.testing.assert_close(probability_right(scales, distances), expected)
    torch.testing.assert_close(standard_deviations(scales), errors.stddev)
    loss = error_loss(scales, distances, distances + torch.tensor([[3.0, -2, 1, 8]]))
    density = errors.log_prob(torch.tensor([[3.0, -2, 1, 8]]))
    shares = torch.tensor([[50.0, 100, 50, 100]])  # of the side: the density is that of err / side
    assert loss.item() == pytest.approx((-(density + shares.log()) - LN2).sum().item() / 4)


@pytest.mark.parametrize("decoding", ["best_bin", "expectation"])
def test_weights_learn_the_errors_and_teach_nothing_else(decoding):
    model = build_scopenet((16, 32), num_classes=1, decoding=decoding, border_errors=True)
    plain = build_scopenet((16, 32), num_classes=1, decoding=decoding)
    assert model.error_weights.tolist() == pytest.approx(START)
    boxes = [[20.0, 30, 90, 110], [5, 5, 60, 40]]
    predictions = random_predictions(model, map_sizes(model, 128, 128), seed=1)
    for x in predictions[1] + predictions[2]:
        x.requires_grad_()
    truth = [ground_truth(boxes, [0, 0])]
    losses = model.forward_training(None, None, predictions, truth)
    losses["loss_error"].backward()
    assert all(x.grad is None or not x.grad.any() for x in predictions[1] + predictions[2])
    assert model.error_weights.grad.abs().min() > 0
    without = plain.forward_training(None, None, predictions, truth)
    assert losses.keys() - without.keys() == {"loss_error"}
    for name, loss in without.items():
        assert torch.equal(loss, losses[name])

    optimizer = torch.optim.Adam([model.error_weights], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        model.forward_training(None, None, predictions, truth)["loss_error"].backward()
        optimizer.step()
    positives = model.label_locations(predictions, truth)
    borders = model.borders(predictions, truth, positives)
    found = borders.predict(decoding, borders.log_probs.argmax(-1))
    known = borders.log_probs, borders.log2_anchors, borders.deltas
    scales = error_scales(model.error_weights, *known, found)
    # At the optimum the mean of the errors in units of their scales is 1.
    errors = (found - borders.gt_distances).abs()
    assert (errors / scales).mean().item() == pytest.approx(1, abs=0.02)


def test_without_positives_the_weights_get_a_zero_gradient():
    model = build_scopenet((16,), border_errors=True)
    predictions = random_predictions(model, [(4, 4)], seed=0)
    model.forward_training(None, None, predictions, [ground_truth([], [])])["loss_error"].backward()
    assert model.error_weights.grad.tolist() == [0, 0, 0]


def detections(border_errors=True):
    model = build_scopenet((8, 16, 32), border_errors=border_errors)
    predictions = random_predictions(model, map_sizes(model, 96, 96), seed=9)
    with torch.no_grad():
        images = ImageList(torch.zeros(1, 3, 1, 1), [(96, 96)])
        return model.forward_inference(images, [], predictions)[0]


def test_detections_are_scored_by_the_probability_of_being_right():
    found = detections()
    assert len(found) > 10
    # Without clipping, side and score give the scale, and that the standard deviation.
    boxes = found.pred_boxes.tensor
    inside = ((boxes > 0) & (boxes < 96)).all(1) & (found.border_scores < 0.999).all(1)
    width, height = (boxes[inside, 2:] - boxes[inside, :2]).unbind(1)
    sides = torch.stack([width, height, width, height], dim=1)
    scales = -0.1 * sides / torch.log1p(-found.border_scores[inside])
    expected = math.sqrt(2) * scales
    torch.testing.assert_close(found.border_stds[inside], expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.loc_scores, found.border_scores.mean(1))
    torch.testing.assert_close(found.scores, found.cls_scores * found.loc_scores)
    assert inside.sum() > 5 and not detections(border_errors=False).has("border_stds")


def test_rescaling_scales_errors_by_their_direction():
    found = Instances((100, 200), pred_boxes=Boxes(torch.tensor([[10.0, 10, 20, 20]])))
    found.border_stds = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    rescaled = rescale_detections(found, 300, 100)
    torch.testing.assert_close(rescaled.border_stds, torch.tensor([[0.5, 6.0, 1.5, 12.0]]))
    arrays = {name: np.ones(1, np.float32) for name in Outputs._fields}
    outputs = Outputs(**arrays)._replace(
        boxes=np.float32([[10, 10, 20, 20]]),
        border_scores=np.ones((1, 4), np.float32),
        border_stds=np.float32([[1, 2, 3, 4]]),
    )
    np.testing.assert_allclose(
        rescale(outputs, (100, 200), (300, 100)).border_stds, rescaled.border_stds
    )
    without = rescale(outputs._replace(border_stds=None), (100, 200), (300, 100))
    assert without.border_stds is None


def test_views_are_merged_with_their_errors():
    found = detections()[:1]
    swapped = mirror(found)
    assert torch.equal(swapped.border_stds, found.border_stds[:, [2, 1, 0, 3]])
    other = Instances(found.image_size, **found.get_fields())
    other.border_stds = found.border_stds + 2
    options = {"score_thresh": 0.0, "nms_thresh": 0.5, "max_detections": 10}
    merged = merge([found, other], **options)
    torch.testing.assert_close(merged.border_stds, found.border_stds + 1)


def test_records_hold_the_errors():
    class Names:
        class_names, category_ids = list("abc"), [1, 2, 3]

    found = detections()[:2]
    first = json.loads(json.dumps(coco_results(found, Names, 7, "a.jpg")))[0]
    assert first["border_stds"] == pytest.approx(found.border_stds[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("side, is_written", [(300, True), (40, False)])
def test_pictures_show_errors_where_there_is_room(side, is_written):
    image = np.zeros((700, 700, 3), np.uint8)
    found = Instances(image.shape[:2], pred_boxes=Boxes(torch.tensor([[50.0, 50, 50, 50]])))
    found.pred_boxes.tensor[:, 2:] += side
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    found.border_scores = torch.full((1, 4), 0.8)
    plain = draw(image, found, ["card"], borders=True)
    found.border_stds = torch.tensor([[3.0, 12.5, 7.25, 0.5]])
    with_errors = draw(image, found, ["card"], borders=True)
    assert plain.shape == with_errors.shape
    assert (with_errors != plain).any() == is_written
