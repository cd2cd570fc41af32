"""The three losses (equation 4): worked-out numbers, the reference, gradients and empty batches."""

import math

import pytest
import reference
import torch
from builders import (
    build_scopenet,
    ground_truth,
    map_sizes,
    random_ground_truth,
    random_predictions,
    reference_settings,
)
from detectron2.utils.events import EventStorage
from fvcore.nn import sigmoid_focal_loss

from scopenet.modeling.losses import bin_loss, focal_loss, localization_loss

LOSSES = ("loss_cls", "loss_bin", "loss_loc")


# --- the functions ------------------------------------------------------------------------------


def test_focal_loss_of_single_logits():
    def one(logit, is_positive, **options):
        logits = torch.tensor(logit).reshape(1, 1, 1, 1)
        positive = logits.flatten()[: int(is_positive)]
        return focal_loss([logits], positive, **{"alpha": 0.25, "gamma": 2.0} | options).item()

    # p = 1/2: 0.25 · (1/2)² · ln 2 and 0.75 · (1/2)² · ln 2
    assert one(0.0, True) == pytest.approx(0.0433217, rel=1e-5)
    assert one(0.0, False) == pytest.approx(0.1299651, rel=1e-5)
    # p = 3/4: 0.25 · (1/4)² · ln(4/3) and 0.75 · (3/4)² · ln 4
    assert one(math.log(3), True) == pytest.approx(0.00449503, rel=1e-4)
    assert one(math.log(3), False) == pytest.approx(0.58484296, rel=1e-5)
    # gamma 0 leaves the cross entropy, weighted by alpha.
    assert one(math.log(3), True, alpha=0.5, gamma=0.0) == pytest.approx(0.14384104, rel=1e-5)


def test_focal_loss_is_that_of_dense_one_hot_targets():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 4, n, n, generator=generator) * 3 for n in (6, 3)]
    targets = [(torch.rand(x.shape, generator=generator) < 0.05).float() for x in maps]
    positives = torch.cat([x[t == 1] for x, t in zip(maps, targets, strict=True)])
    assert len(positives) > 5
    for alpha, gamma in [(0.25, 2.0), (0.6, 1.5)]:
        expected = sum(
            sigmoid_focal_loss(x, t, alpha=alpha, gamma=gamma, reduction="sum")
            for x, t in zip(maps, targets, strict=True)
        )
        loss = focal_loss(maps, positives, alpha=alpha, gamma=gamma)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_bin_loss_is_the_mean_over_directions_and_the_sum_over_locations():
    probs = torch.tensor(
        [
            [[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.4, 0.4, 0.2]],
            [[0.9, 0.05, 0.05], [0.3, 0.3, 0.4], [0.6, 0.2, 0.2], [0.1, 0.5, 0.4]],
        ]
    )
    bins = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 0]])
    chosen = (0.5, 0.7, 0.8, 0.2, 0.05, 0.4, 0.6, 0.1)
    expected = sum(-math.log(p) for p in chosen) / 4
    assert bin_loss(probs.log(), bins).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])  # no smoothing: only the shape counts
@pytest.mark.parametrize(
    "pred, gt, iou, hull_gap",
    [
        # Areas 4 and 8, one inside of the other.
        ([1, 1, 1, 1], [2, 1, 2, 1], 4 / 8, 0),
        # 8 and 8, crossing in 4, in a hull of 16.
        ([2, 1, 2, 1], [1, 2, 1, 2], 4 / 12, 4 / 16),
        # 24 and 24, crossing in (1 + 2)(2 + 1) = 9, in a hull of (4 + 3)(3 + 4) = 49.
        ([1, 2, 3, 4], [4, 3, 2, 1], 9 / 39, 10 / 49),
        ([1, 2, 3, 4], [1, 2, 3, 4], 1, 0),
    ],
)
def test_localization_losses(pred, gt, iou, hull_gap, scale):
    pred, gt = (torch.tensor([x], dtype=torch.float32) * scale for x in (pred, gt))
    expected = {"iou": -math.log(iou), "linear_iou": 1 - iou, "giou": 1 - iou + hull_gap}
    for loss_type, value in expected.items():
        loss = localization_loss(pred, gt, loss_type)
        assert loss.item() == pytest.approx(value, rel=1e-5, abs=1e-6)
        twice = localization_loss(pred.repeat(2, 1), gt.repeat(2, 1), loss_type)
        assert twice.item() == pytest.approx(2 * value, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("loss_type", ["iou", "linear_iou", "giou"])
def test_localization_gradients(loss_type):
    generator = torch.Generator().manual_seed(1)
    pred, gt = 1 + 9 * torch.rand(2, 12, 4, generator=generator, dtype=torch.float64)
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: localization_loss(x, gt, loss_type), pred)


def test_focal_gradient():
    logits = torch.linspace(-6, 6, 24, dtype=torch.float64).reshape(1, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: focal_loss([x], x[:, 1, 0, :2].flatten(), alpha=0.25, gamma=2.0), logits
    )


@pytest.mark.parametrize("gamma", [2.0, 1.5, 0.0])
def test_focal_gradient_of_large_maps_of_any_layout(gamma):
    # Larger than what is computed at a time; zeros and extreme logits among them.
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(2, 8, 300, 70, generator=generator, dtype=torch.float64)
    logits[:, :, 100] = 0
    logits[0, 0, 200] = torch.linspace(-600, 600, 70)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = logits.clone(memory_format=memory_format).requires_grad_()
        loss = focal_loss([x], x[0, 0, 0, :0], alpha=0.25, gamma=gamma)
        loss.backward()
        plain = logits.clone().requires_grad_()
        expected = (
            0.75 * (plain.sigmoid() ** gamma * torch.logaddexp(plain, plain.new_zeros(()))).sum()
        )
        expected.backward()
        assert expected > 1000
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(x.grad, plain.grad, rtol=1e-9, atol=1e-12)
        assert x.grad.is_contiguous(memory_format=memory_format)


def test_focal_loss_in_float32_is_as_exact_as_its_summands():
    logits = torch.linspace(-12, 12, 2400).reshape(1, 1, 24, 100)
    exact = focal_loss([logits.double()], logits.double()[0, 0, 0, :0], alpha=0.25, gamma=2.0)
    loss = focal_loss([logits], logits[0, 0, 0, :0], alpha=0.25, gamma=2.0)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


# --- equation 4 as a whole ----------------------------------------------------------------------


def worked_example(**options):
    """One level of 4 x 4 cells of stride 8, one box [3, 31]² of which all is worked out by hand.

    The four inner cells (12 and 20 px) are nearer than 1 stride to the centre (17, 17); only the
    one at (20, 20) is nearer than half a stride. All 16 class logits are 0, and so are the deltas.
    The edges are 16, 32, 64, hence the first bin of every border is right and A = 2^4.5; the bin
    logits of the left border are (0, 2 ln 3) at σ² = 2, those of the others 0.
    """
    model = build_scopenet(
        (8,), num_classes=1, num_bins=2, center_radius_cls=0.5, center_radius_loc=1.0, **options
    )
    bin_logits = torch.zeros(1, 12, 4, 4)
    bin_logits[:, 1] = 2 * math.log(3)
    bin_logits[:, 2::3] = math.log(2)
    predictions = [torch.zeros(1, 1, 4, 4)], [bin_logits], [torch.zeros(1, 8, 4, 4)]
    return model, predictions, [ground_truth([[3, 3, 31, 31]], [0])]


def test_worked_example():
    model, predictions, instances = worked_example()
    losses = model.forward_training(None, None, predictions, instances)
    # 15 negatives and 1 positive at p = 1/2, over 1 positive of the classification branch.
    assert losses["loss_cls"].item() == pytest.approx(15 * 0.1299651 + 0.0433217, rel=1e-5)
    # 0.5 · (ln 4 + 3 ln 2) / 4: four locations, divided by four.
    assert losses["loss_bin"].item() == pytest.approx(0.4332170, rel=1e-5)
    # IoU = 28² / (2 · 2^4.5)² = 784 / 2048
    assert losses["loss_loc"].item() == pytest.approx(0.9602102, rel=1e-5)
    assert tuple(losses) == LOSSES


def test_weights_of_the_losses():
    model, predictions, instances = worked_example(bin_loss_weight=2.0, loc_loss_weight=0.25)
    losses = model.forward_training(None, None, predictions, instances)
    assert losses["loss_bin"].item() == pytest.approx(1.7328680, rel=1e-5)
    assert losses["loss_loc"].item() == pytest.approx(0.2400525, rel=1e-5)


def test_divisors_are_the_positives_of_the_batch_and_not_of_an_image():
    model, predictions, instances = worked_example()
    batch = [[x.repeat(3, 1, 1, 1) for x in maps] for maps in predictions]
    losses = model.forward_training(None, None, batch, instances * 2 + [ground_truth([], [])])
    # Three images, two of them with one positive.
    assert losses["loss_cls"].item() == pytest.approx((46 * 0.1299651 + 2 * 0.0433217) / 2, 1e-5)
    assert losses["loss_bin"].item() == pytest.approx(0.4332170, rel=1e-5)
    assert losses["loss_loc"].item() == pytest.approx(0.9602102, rel=1e-5)


def test_without_positives_the_divisor_is_one():
    model, predictions, _ = worked_example()
    losses = model.forward_training(None, None, predictions, [ground_truth([], [])])
    assert losses["loss_cls"].item() == pytest.approx(16 * 0.1299651, rel=1e-5)
    assert losses["loss_bin"].item() == 0
    assert losses["loss_loc"].item() == 0


def test_logged_metrics():
    model, predictions, instances = worked_example()
    batch = [[x.repeat(2, 1, 1, 1) for x in maps] for maps in predictions]
    with EventStorage() as storage:
        model.forward_training(None, None, batch, instances + [ground_truth([], [])])
    logged = {name: value for name, (value, _) in storage.latest().items()}
    assert logged == pytest.approx(
        {
            "positives_cls_per_image": 1 / 2,
            "positives_loc_per_image": 4 / 2,
            "bin_accuracy": 3 / 4,
            "iou_target_bin": 784 / 2048,
            "iou_best_bin": 784 / 3072,  # the left border at 2^5.5 instead of 2^4.5
            "log_variance": math.log(2),
        },
        rel=1e-5,
    )


def test_logged_metrics_of_expected_borders():
    model, predictions, instances = worked_example(decoding="expectation")
    with EventStorage() as storage:
        model.forward_training(None, None, predictions, instances)
    # 3/4 of the left border's probability is in the second bin, half of that of the others.
    left, others = 2 ** (4.5 + 0.75), 2**5
    area = (left + others) * 2 * others
    assert storage.latest()["iou_expectation"][0] == pytest.approx(784 / area, rel=1e-5)
    assert "iou_best_bin" not in storage.latest()


def test_logged_metrics_without_positives():
    model, predictions, _ = worked_example()
    with EventStorage() as storage:
        model.forward_training(None, None, predictions, [ground_truth([], [])])
    logged = {name: value for name, (value, _) in storage.latest().items()}
    assert logged == {"positives_cls_per_image": 0, "positives_loc_per_image": 0}


def test_losses_vanish_for_perfect_predictions():
    """The target bins chosen for certain, and t = ln(d / A) in them."""
    model = build_scopenet((8, 16, 32), num_bins=3)
    settings = reference_settings(model)
    sizes = map_sizes(model, 128, 128)
    boxes, classes = [[20, 30, 61, 52], [10, 8, 118, 120]], [2, 0]
    cls_logits = [torch.full((1, 3, *size), -30.0) for size in sizes]
    bin_logits = [torch.zeros(1, 16, *size) for size in sizes]
    deltas = [torch.full((1, 12, *size), 3.0) for size in sizes]
    for level, labels in enumerate(reference.assign(settings, sizes, boxes)):
        for cell, label in enumerate(labels):
            if label is None:
                continue
            row, column = divmod(cell, sizes[level][1])
            box, is_cls = label
            if is_cls:
                cls_logits[level][0, classes[box], row, column] = 30.0
            x, y = reference.location(settings, level, row, column)
            for side, d in enumerate(reference.border_distances(x, y, boxes[box])):
                n = reference.bin_of(settings, level, d)
                bin_logits[level][0, 4 * side + n, row, column] = 30.0
                anchor = model.log2_anchors[level, n].item()
                deltas[level][0, 3 * side + n, row, column] = math.log(d) - anchor * math.log(2)
    instances = [ground_truth(boxes, classes)]
    losses = model.forward_training(None, None, (cls_logits, bin_logits, deltas), instances)
    for name in LOSSES:
        assert 0 <= losses[name].item() < 1e-5, name


@pytest.mark.parametrize("decoding", ["best_bin", "expectation"])
def test_the_localization_loss_teaches_bins_only_under_expectation(decoding):
    model, predictions, instances = worked_example(decoding=decoding)
    bin_logits = predictions[1][0].requires_grad_()
    model.forward_training(None, None, predictions, instances)["loss_loc"].backward()
    at_box = 0 if bin_logits.grad is None else bin_logits.grad[0, :, 1:3, 1:3].abs().sum()
    assert (at_box > 0) == (decoding == "expectation")


# --- against the reference ----------------------------------------------------------------------


def reference_losses(model, predictions, instances, bin_size=1.0):
    return reference.losses(
        reference_settings(model, bin_size),
        model.log2_anchors,
        *predictions,
        [x.gt_boxes.tensor for x in instances],
        [x.gt_classes for x in instances],
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_bins": 1},
        {"num_bins": 3, "bin_size": 1.25},
        {"num_bins": 7, "bin_size": 0.75},
        {"num_bins": 1, "uncertainty": False},
        {"uncertainty": False},
        {"decoding": "expectation"},
        {"decoding": "expectation", "uncertainty": False, "num_bins": 3, "loc_loss_type": "giou"},
        {"loc_loss_type": "linear_iou"},
        {"loc_loss_type": "giou", "num_bins": 3},
        {"focal_loss_alpha": 0.4, "focal_loss_gamma": 1.5, "num_classes": 1},
        {"bin_loss_weight": 1.5, "loc_loss_weight": 2.5},
        {"center_radius_cls": 0.7, "center_radius_loc": 3.0},
        {"strides": (8,)},
    ],
    ids=str,
)
def test_equals_the_reference(options):
    model = build_scopenet(**{"strides": (8, 16, 32)} | options)
    generator = torch.Generator().manual_seed(2)
    offset = model.log2_anchor_offset
    offset.data = 0.4 * torch.randn(offset.shape, generator=generator)
    predictions = random_predictions(model, map_sizes(model, 96, 128), num_images=3, seed=3)
    instances = [
        random_ground_truth(6, model.num_classes, 96, 128, seed=4),
        ground_truth([], []),
        random_ground_truth(3, model.num_classes, 96, 128, seed=5),
    ]
    losses = model.forward_training(None, None, predictions, instances)
    expected = reference_losses(model, predictions, instances, options.get("bin_size", 1.0))
    for name in LOSSES:
        assert losses[name].item() == pytest.approx(expected[name], rel=1e-4), name
    assert (losses["loss_bin"].item() == 0) == (model.num_bins == 1)


def test_equals_the_reference_when_no_centre_is_near():
    # 4 px from every cell centre: only localization has positives, and the divisors differ.
    model = build_scopenet((8,), center_radius_cls=0.4)
    predictions = random_predictions(model, [(8, 8)], seed=6)
    instances = [ground_truth([[10, 10, 38, 38]], [1])]
    losses = model.forward_training(None, None, predictions, instances)
    expected = reference_losses(model, predictions, instances)
    for name in LOSSES:
        assert losses[name].item() == pytest.approx(expected[name], rel=1e-4), name
    assert expected["loss_loc"] > 0


@pytest.mark.parametrize("loc_loss_type", ["iou", "giou"])
def test_gradients_equal_numeric_differentiation_of_the_reference(loc_loss_type):
    model = build_scopenet(
        (8, 16), num_classes=2, num_bins=3, level_boundaries=[20], loc_loss_type=loc_loss_type
    )
    predictions = random_predictions(model, [(6, 6), (3, 3)], seed=7, outliers=0.0)
    instances = [ground_truth([[2, 5, 22, 25], [4, 4, 44, 46], [20, 9, 46, 29]], [1, 0, 1])]
    positives = model.label_locations(predictions, instances)
    assert set(positives.level.tolist()) == {0, 1}
    # Every channel of two positive locations and of one that is none.
    places = [tuple(int(x[i]) for x in positives[:4]) for i in (0, -1)] + [(0, 0, 0, 5)]
    assert places[2] not in set(zip(*(x.tolist() for x in positives[:4]), strict=True))

    leaves = [x.requires_grad_() for maps in predictions for x in maps]
    losses = model.forward_training(None, None, predictions, instances)
    names = [*LOSSES]
    gradients = {
        name: torch.autograd.grad(losses[name], leaves, retain_graph=True, allow_unused=True)
        for name in names
    }
    anchor_gradient = torch.autograd.grad(losses["loss_loc"], model.log2_anchor_offset)[0]

    anchors = model.log2_anchors.tolist()
    values = [[x.tolist() for x in maps] for maps in predictions]
    boxes, classes = [instances[0].gt_boxes.tensor.tolist()], [instances[0].gt_classes.tolist()]
    settings = reference_settings(model)

    def difference(row, index, step=1e-5):
        """Central difference of the reference's losses by ``row[index]``."""
        start, results = row[index], []
        for value in (start + step, start - step):
            row[index] = value
            results.append(reference.losses(settings, anchors, *values, boxes, classes))
        row[index] = start
        return {name: (results[0][name] - results[1][name]) / (2 * step) for name in names}

    for level, image, i, j in places:
        for kind, maps in enumerate(values):
            for channel, rows in enumerate(maps[level][image]):
                expected = difference(rows[i], j)
                for name in names:
                    gradient = gradients[name][2 * kind + level]
                    value = 0.0 if gradient is None else gradient[image, channel, i, j].item()
                    assert value == pytest.approx(expected[name], rel=1e-4, abs=1e-6), (name, kind)
    for level in range(2):
        for n in range(3):
            expected = difference(anchors[level], n)["loss_loc"]
            assert anchor_gradient[level, n].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


# --- extremes and empty batches -----------------------------------------------------------------


@pytest.mark.parametrize("loc_loss_type", ["iou", "linear_iou", "giou"])
@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize("signs", ["+", "-", "random"])
def test_extreme_outputs_keep_losses_and_gradients_finite(signs, size, loc_loss_type):
    model = build_scopenet((8, 16, 32), loc_loss_type=loc_loss_type)
    predictions = random_predictions(model, map_sizes(model, 96, 96), num_images=2, seed=9)
    factor = {"+": torch.ones_like, "-": lambda x: -torch.ones_like(x), "random": torch.sign}[signs]
    predictions = [[(size * factor(x)).requires_grad_() for x in maps] for maps in predictions]
    instances = [random_ground_truth(5, 3, 96, 96, seed=i) for i in (10, 11)]
    losses = model.forward_training(None, None, predictions, instances)
    sum(losses.values()).backward()
    for name in LOSSES:
        assert losses[name].isfinite(), name
    for gradient in [model.log2_anchor_offset.grad] + [
        x.grad for maps in predictions for x in maps
    ]:
        assert gradient.isfinite().all()


@pytest.mark.parametrize("overshoot", [-50.0, 50.0])
def test_outputs_beyond_the_clamps_are_pulled_back(overshoot):
    """All borders far too short or too long, all σ² far too small or too large."""
    model, predictions, instances = worked_example()
    cls_logits, bin_logits, deltas = predictions
    deltas[0] += overshoot
    # A wrong bin preferred wants a larger σ², the right one preferred a smaller one.
    bin_logits[0][:, 0::3] = torch.sign(torch.tensor(overshoot))
    bin_logits[0][:, 1::3] = 0
    bin_logits[0][:, 2::3] = overshoot
    for x in (bin_logits[0], deltas[0]):
        x.requires_grad_()
    losses = model.forward_training(None, None, predictions, instances)
    sum(losses.values()).backward()
    # Descent lowers what is too large: its gradient has the sign of the overshoot.
    of_positives = torch.zeros(4, 4, dtype=torch.bool)
    of_positives[1:3, 1:3] = True
    target_deltas = deltas[0].grad[0, 0::2][:, of_positives]
    assert (target_deltas * overshoot > 0).all()
    log_variances = bin_logits[0].grad[0, 2::3][:, of_positives]
    assert (log_variances * overshoot > 0).all()


@pytest.mark.parametrize(
    "options",
    [{}, {"num_bins": 1}, {"uncertainty": False}, {"norm": "GN", "conv_dim": 32}],
    ids=str,
)
@pytest.mark.parametrize("with_boxes", [False, True])
def test_every_parameter_gets_a_gradient(options, with_boxes):
    model = build_scopenet(**options)
    image = torch.rand(3, 128, 128) * 255
    some = ground_truth([[20, 20, 60, 64]], [1]) if with_boxes else ground_truth([], [])
    batch = [
        {"image": image, "instances": ground_truth([], [])},
        {"image": image, "instances": some},
    ]
    losses = model(batch)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if not with_boxes:
        assert losses["loss_bin"].item() == losses["loss_loc"].item() == 0
        for parameter in (model.log2_anchor_offset, model.head.border_pred.weight):
            assert not parameter.grad.any()


def test_unused_uncertainty_gets_a_zero_gradient():
    model = build_scopenet(uncertainty=False)
    image = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(12)) * 255
    losses = model([{"image": image, "instances": ground_truth([[20, 20, 60, 64]], [1])}])
    sum(losses.values()).backward()
    gradient = model.head.bin_score.weight.grad.unflatten(0, (4, 6))
    assert not gradient[:, 5].any()
    assert gradient[:, :5].any()


def test_validation_losses_are_the_training_losses_and_log_nothing():
    model = build_scopenet()
    generator = torch.Generator().manual_seed(13)
    batch = [
        {
            "image": torch.rand(3, 128, 128, generator=generator) * 255,
            "instances": random_ground_truth(4, 3, 128, 128, seed=i),
        }
        for i in range(2)
    ]
    expected = model(batch)
    model.eval()
    with EventStorage() as storage:
        losses = model.validation_losses(batch)
    assert storage.latest() == {}
    assert tuple(losses) == LOSSES
    for name in LOSSES:
        assert losses[name].item() == expected[name].item() > 0
        assert not losses[name].requires_grad
    assert not model.training


def test_validation_losses_without_boxes():
    model = build_scopenet().eval()
    losses = model.validation_losses(
        [{"image": torch.zeros(3, 128, 128), "instances": ground_truth([], [])}]
    )
    assert losses["loss_cls"] > 0
    assert losses["loss_bin"] == losses["loss_loc"] == 0


def test_second_derivatives_are_refused():
    logits = torch.randn(1, 2, 3, 4, requires_grad=True)
    loss = focal_loss([logits], logits.new_zeros(0), alpha=0.25, gamma=2.0)
    (gradient,) = torch.autograd.grad(loss.square(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_negative_alpha_is_no_weighting():
    logits = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    target = torch.zeros_like(logits)
    target[0, 1, 2, 3] = 1
    found = focal_loss([logits], logits[0, 1, 2, 3].view(1), alpha=-1.0, gamma=2.0)
    expected = sigmoid_focal_loss(logits, target, alpha=-1.0, gamma=2.0, reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("value", [-150.0, 150.0])
@pytest.mark.parametrize("gamma", [0.25, 1.0, 2.0])
def test_gradients_of_extreme_logits_are_finite(value, gamma):
    logits = torch.full((1, 1, 1, 2), value, requires_grad=True)
    focal_loss([logits], logits[0, 0, 0, :1], alpha=0.25, gamma=gamma).backward()
    assert logits.grad.isfinite().all()


def test_an_empty_batch_has_no_focal_loss():
    logits = torch.zeros(0, 2, 3, 4, requires_grad=True)
    loss = focal_loss([logits], logits.new_zeros(0), alpha=0.25, gamma=2.0)
    loss.backward()
    assert loss.item() == 0 and logits.grad.shape == logits.shape
