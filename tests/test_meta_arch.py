"""The model as a whole: config, head, pyramid, state, end-to-end behaviour, tracing, precision."""

import math

import pytest
import torch
from builders import (
    STRIDES,
    build_scopenet,
    ground_truth,
    map_sizes,
    random_ground_truth,
    random_predictions,
    small_config,
    spread_out_head,
)
from detectron2.config import get_cfg
from detectron2.engine import SimpleTrainer
from detectron2.export import TracingAdapter
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import ImageList
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from torch import nn

from scopenet import ScopeHead, ScopeNet, add_scopenet_config
from scopenet.modeling.head import split_bin_logits, tower


def random_inputs(*sizes, seed: int = 0) -> list[dict]:
    """One image with noise in blocks, which survives averaging, per (height, width) in px."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for height, width in sizes:
        blocks = torch.rand(3, -(-height // 16), -(-width // 16), generator=generator) * 255
        image = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width]
        inputs.append({"image": (image + 8 * torch.randn(image.shape, generator=generator))})
    return inputs


def spread_out_model(inputs: list[dict], *overrides) -> ScopeNet:
    """A model from a config whose detections in these inputs are clearly ranked."""
    torch.manual_seed(0)
    model = build_model(small_config(*overrides)).eval()
    spread_out_head(model, inputs)
    return model


# --- config -------------------------------------------------------------------------------------


def test_config_keys():
    cfg = get_cfg()
    add_scopenet_config(cfg)
    assert set(cfg.MODEL.SCOPENET) == {
        *("IN_FEATURES", "NUM_CLASSES", "NUM_CONVS", "CONV_DIM", "NORM", "SEPARABLE"),
        *("NUM_BINS", "BIN_SIZE", "LEVEL_BOUNDARIES", "UNCERTAINTY", "GUIDED_SCORE"),
        *("DECODING", "BORDER_ERRORS", "PRIOR_PROB"),
        *("CENTER_RADIUS_CLS", "CENTER_RADIUS_LOC", "FOCAL_LOSS_ALPHA", "FOCAL_LOSS_GAMMA"),
        *("BIN_LOSS_WEIGHT", "LOC_LOSS_WEIGHT", "LOC_LOSS_TYPE"),
        *("SCORE_THRESH_TEST", "TOPK_CANDIDATES_TEST", "NMS_THRESH_TEST"),
    }


def test_defaults_of_the_config_and_of_the_constructors_agree():
    cfg = small_config()
    by_config, by_arguments = build_model(cfg), build_scopenet()
    for name in (
        *("num_bins", "uncertainty", "guided_score", "decoding"),
        *("center_radius_cls", "center_radius_loc"),
        *("focal_loss_alpha", "focal_loss_gamma", "bin_loss_weight", "loc_loss_weight"),
        *("loc_loss_type", "test_score_thresh", "test_topk_candidates", "test_nms_thresh"),
        "max_detections_per_image",
    ):
        assert getattr(by_config, name) == getattr(by_arguments, name), name
    assert torch.equal(by_config.bin_edges, by_arguments.bin_edges)
    assert isinstance(by_config, ScopeNet) and isinstance(by_config, DenseDetector)


@pytest.mark.parametrize(
    "key, value, attribute",
    [
        ("MODEL.SCOPENET.NUM_CLASSES", 7, "num_classes"),
        ("MODEL.SCOPENET.NUM_BINS", 3, "num_bins"),
        ("MODEL.SCOPENET.UNCERTAINTY", False, "uncertainty"),
        ("MODEL.SCOPENET.DECODING", "expectation", "decoding"),
        ("MODEL.SCOPENET.GUIDED_SCORE", False, "guided_score"),
        ("MODEL.SCOPENET.CENTER_RADIUS_CLS", 1.25, "center_radius_cls"),
        ("MODEL.SCOPENET.CENTER_RADIUS_LOC", 2.25, "center_radius_loc"),
        ("MODEL.SCOPENET.FOCAL_LOSS_ALPHA", 0.3, "focal_loss_alpha"),
        ("MODEL.SCOPENET.FOCAL_LOSS_GAMMA", 1.5, "focal_loss_gamma"),
        ("MODEL.SCOPENET.BIN_LOSS_WEIGHT", 0.7, "bin_loss_weight"),
        ("MODEL.SCOPENET.LOC_LOSS_WEIGHT", 0.8, "loc_loss_weight"),
        ("MODEL.SCOPENET.LOC_LOSS_TYPE", "giou", "loc_loss_type"),
        ("MODEL.SCOPENET.SCORE_THRESH_TEST", 0.1, "test_score_thresh"),
        ("MODEL.SCOPENET.TOPK_CANDIDATES_TEST", 17, "test_topk_candidates"),
        ("MODEL.SCOPENET.NMS_THRESH_TEST", 0.6, "test_nms_thresh"),
        ("TEST.DETECTIONS_PER_IMAGE", 9, "max_detections_per_image"),
    ],
)
def test_config_reaches_the_model(key, value, attribute):
    arguments = ScopeNet.from_config(small_config(key, value))
    model = ScopeNet(**arguments)
    assert getattr(model, attribute) == value


def test_config_reaches_bins_head_and_pixels():
    overrides = {
        "MODEL.SCOPENET.NUM_BINS": 2,
        "MODEL.SCOPENET.BIN_SIZE": 0.75,
        "MODEL.SCOPENET.LEVEL_BOUNDARIES": [40, 80, 160, 320],
        "MODEL.SCOPENET.CONV_DIM": 64,
        "MODEL.SCOPENET.NUM_CONVS": 2,
        "MODEL.SCOPENET.NORM": "GN",
        "MODEL.SCOPENET.PRIOR_PROB": 0.05,
        "MODEL.PIXEL_MEAN": [1.0, 2.0, 3.0],
    }
    model = build_model(small_config(*(x for pair in overrides.items() for x in pair)))
    edges = 40 * torch.tensor([2**-1.5, 2**-0.75, 1.0])
    torch.testing.assert_close(model.bin_edges[0], edges)
    assert [low for low, _ in model.level_ranges] == [0, 40, 80, 160, 320]
    for subnet in (model.head.cls_subnet, model.head.loc_subnet):
        kinds = [type(layer).__name__ for layer in subnet]
        assert kinds == ["Conv2d", "GroupNorm", "ReLU"] * 2
        assert {layer.out_channels for layer in subnet if isinstance(layer, nn.Conv2d)} == {64}
        assert {x.num_groups for x in subnet if isinstance(x, nn.GroupNorm)} == {32}
    bias = -math.log(0.95 / 0.05)
    torch.testing.assert_close(model.head.cls_score.bias, torch.full((3,), bias))
    assert model.pixel_mean.flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "options, key",
    [
        ({"level_boundaries": [64, 128, 256]}, "LEVEL_BOUNDARIES"),
        ({"level_boundaries": [64, 128, 256, 512, 1024]}, "LEVEL_BOUNDARIES"),
        ({"level_boundaries": [64, 128, 128, 512]}, "LEVEL_BOUNDARIES"),
        ({"level_boundaries": [128, 64, 256, 512]}, "LEVEL_BOUNDARIES"),
        ({"level_boundaries": [0, 64, 128, 256]}, "LEVEL_BOUNDARIES"),
        ({"bin_size": 0.0}, "BIN_SIZE"),
        ({"bin_size": -1.0}, "BIN_SIZE"),
        ({"center_radius_cls": 2.5}, "CENTER_RADIUS_CLS"),
        ({"center_radius_cls": 0.0}, "CENTER_RADIUS_CLS"),
        ({"center_radius_cls": 2.0, "center_radius_loc": 1.0}, "CENTER_RADIUS_LOC"),
        ({"loc_loss_type": "smooth_l1"}, "LOC_LOSS_TYPE"),
        ({"test_score_thresh": 1.0}, "SCORE_THRESH_TEST"),
        ({"test_score_thresh": -0.1}, "SCORE_THRESH_TEST"),
        ({"head_in_features": ["p7", "p6", "p5", "p4", "p3"]}, "IN_FEATURES"),
        ({"norm": "SyncBN"}, "NORM"),
        ({"norm": "BN"}, "NORM"),
        ({"norm": "FrozenBN"}, "NORM"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(options, key):
    with pytest.raises(ValueError, match=key):
        build_scopenet(**options)


# --- head ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_convs", [0, 1, 3])
def test_head_outputs(num_convs):
    model = build_scopenet(num_classes=4, num_bins=3, num_convs=num_convs)
    features = [torch.randn(2, 3, *size) for size in [(6, 9), (3, 5), (2, 3), (1, 2), (1, 1)]]
    cls_logits, bin_logits, border_deltas = model.head(features)
    for x, *maps in zip(features, cls_logits, bin_logits, border_deltas, strict=True):
        assert [tuple(y.shape) for y in maps] == [(2, c, *x.shape[2:]) for c in (4, 16, 12)]
        assert all(y.min() < 0 < y.max() for y in maps[1:])  # raw: no ReLU or softmax


def test_layout_of_the_bin_channels():
    bin_logits, log_variance = split_bin_logits(torch.arange(48.0).reshape(2, 24), 5)
    assert bin_logits[0, :, 0].tolist() == [0, 6, 12, 18]
    assert bin_logits[1, 2].tolist() == [36, 37, 38, 39, 40]
    assert log_variance[0].tolist() == [5, 11, 17, 23]


def test_branches_of_the_head():
    """Classes come from one tower, bins and deltas from the other."""
    model = build_scopenet(seed=1)
    features = [torch.randn(1, 3, 4, 4) for _ in STRIDES]
    outputs = model.head(features)
    for subnet, changed in [
        ("cls_subnet", (True, False, False)),
        ("loc_subnet", (False, True, True)),
    ]:
        tower = getattr(model.head, subnet)
        weight = tower[0].weight.detach().clone()
        tower[0].weight.data += 0.1
        differ = [
            not torch.equal(x[0], y[0]) for x, y in zip(outputs, model.head(features), strict=True)
        ]
        assert tuple(differ) == changed
        tower[0].weight.data = weight


@pytest.mark.parametrize("norm", ["", "GN"])
def test_levels_share_the_head(norm):
    model = build_scopenet(norm=norm, conv_dim=32)
    feature = torch.randn(1, 3, 5, 5)
    for maps in model.head([feature] * 5):
        assert all(torch.equal(x, maps[0]) for x in maps)


def test_new_head():
    """Weights N(0, 0.01), biases 0, class bias -ln 99."""
    head = build_scopenet(num_convs=2, conv_dim=64).head
    weights = torch.cat([x.weight.flatten() for x in head.modules() if isinstance(x, nn.Conv2d)])
    # The standard error of a standard deviation is σ / sqrt(2n), here below 0.2 %.
    assert weights.std().item() == pytest.approx(0.01, rel=0.01)
    assert abs(weights.mean().item()) < 1e-4
    for name, parameter in head.named_parameters():
        if name.endswith("bias"):
            expected = -4.59511985 if name == "cls_score.bias" else 0.0
            assert torch.equal(parameter, torch.full_like(parameter, expected)), name
    assert {x.kernel_size for x in head.modules() if isinstance(x, nn.Conv2d)} == {(3, 3)}


def test_parameters_of_the_paper_s_head():
    head = ScopeHead(input_shape=[ShapeSpec(channels=256)] * 5, num_classes=80)
    tower = 4 * (256 * 256 * 9 + 256)
    outputs = (80 + 24 + 20) * (256 * 9 + 1)
    assert sum(x.numel() for x in head.parameters()) == 2 * tower + outputs
    assert {x.weight.shape[1] for x in head.modules() if isinstance(x, nn.Conv2d)} == {256}


def test_separable_head():
    """A location of a tower's first layer sees 3x3 features, of all channels, by weights of 3x3
    for each channel and of 1x1 for each pair of them; the last convolutions are 1x1."""
    cfg = small_config("MODEL.SCOPENET.SEPARABLE", True, "MODEL.SCOPENET.NUM_CONVS", 1)
    head = build_model(cfg).head
    tower = head.cls_subnet
    x = torch.zeros(1, 32, 7, 7, requires_grad=True)
    tower[0](x)[0, :, 3, 3].sum().backward()
    seen = x.grad[0] != 0
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[2:5, 2:5] = True
    assert torch.equal(seen, expected.expand(32, 7, 7))
    width = cfg.MODEL.SCOPENET.CONV_DIM
    assert sum(x.numel() for x in tower.parameters()) == 32 * 9 + 32 * width + width
    last = {"cls_score": cfg.MODEL.SCOPENET.NUM_CLASSES, "bin_score": 24, "border_pred": 20}
    shapes = {name: tuple(getattr(head, name).weight.shape) for name in last}
    assert shapes == {name: (number, width, 1, 1) for name, number in last.items()}


def test_a_separable_head_starts_like_one_of_3x3_convolutions():
    """Filters as long; outputs as large, and as quick to change with their weights."""
    torch.manual_seed(0)
    shape = [ShapeSpec(channels=64)]
    lengths, sizes, gradients = [], [], []
    for separable in (False, True):
        head = ScopeHead(
            input_shape=shape, num_classes=20, conv_dim=64, norm="GN", separable=separable
        )
        convs = [x for x in head.loc_subnet.modules() if isinstance(x, nn.Conv2d)]
        lengths += [x.weight.flatten(1).norm(dim=1).mean() for x in convs]
        deltas = head([torch.randn(1, 64, 33, 33)])[2][0]
        sizes.append(deltas.std())
        inside = deltas[0, 0].diagonal()[3:-3]  # where no padding is seen
        weight = head.border_pred.weight
        found = [torch.autograd.grad(x, weight, retain_graph=True)[0].norm() for x in inside]
        gradients.append(torch.stack(found).mean())
    assert len(lengths) == 4 + 8
    torch.testing.assert_close(torch.stack(lengths), torch.full((12,), 0.24), rtol=0.05, atol=0)
    torch.testing.assert_close(*sizes, rtol=0.1, atol=0)
    torch.testing.assert_close(*gradients, rtol=0.1, atol=0)


def test_separable_towers_without_norms_give_features_as_large_as_others():
    """What is too small at the start would vanish layer by layer."""
    torch.manual_seed(0)
    x = torch.randn(1, 64, 33, 33)
    others, separable = (tower(64, 4, 64, "", kind)(x).std() for kind in (False, True))
    torch.testing.assert_close(separable, others, rtol=0.5, atol=0)


def test_head_refuses_features_that_do_not_fit():
    with pytest.raises(ValueError, match="equal channels"):
        ScopeHead(input_shape=[ShapeSpec(channels=8), ShapeSpec(channels=16)], num_classes=1)
    with pytest.raises(ValueError, match="5 feature levels"):
        build_scopenet().head([torch.zeros(1, 3, 4, 4)] * 4)


# --- pyramid, strides, state --------------------------------------------------------------------


def test_strides_are_those_of_the_backbone():
    model = build_scopenet((4, 12, 24), level_boundaries=[40, 90])
    assert model.strides == [4, 12, 24]
    assert model.strides == [4, 12, 24]
    model = build_model(small_config())
    assert model.strides == [8, 16, 32, 64, 128]
    overrides = ["MODEL.SCOPENET.IN_FEATURES", ["p4", "p6"]]
    model = build_model(small_config(*overrides, "MODEL.SCOPENET.LEVEL_BOUNDARIES", [256]))
    assert model.strides == [16, 64]


@pytest.mark.parametrize(
    "builder, from_p5",
    [("build_retinanet_resnet_fpn_backbone", False), ("build_p5_resnet_fpn_backbone", True)],
)
def test_source_of_p6(builder, from_p5):
    """Without its lateral connection p5, and with it what comes from p5, is zero everywhere."""
    torch.manual_seed(0)
    cfg = small_config("MODEL.BACKBONE.NAME", builder)
    backbone = build_backbone(cfg).eval()
    assert list(backbone.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]
    assert {x.channels for x in backbone.output_shape().values()} == {32}
    image = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        before = backbone(image)
        nn.init.zeros_(backbone.fpn_lateral5.weight)
        after = backbone(image)
    assert all(x.any() for x in before.values())
    assert [x.shape[-2:] for x in before.values()] == map_sizes(build_scopenet(), 128, 160)
    is_zero = {name: not x.any() for name, x in after.items()}
    assert is_zero == {"p3": False, "p4": False, "p5": True, "p6": from_p5, "p7": from_p5}
    if not from_p5:
        assert torch.equal(before["p6"], after["p6"])


def test_state():
    """Anchors are kept as the offset from a start that the config gives."""
    model = build_scopenet()
    own = {name for name in model.state_dict() if not name.startswith(("backbone.", "head."))}
    assert own == {"log2_anchor_offset"}
    assert not model.log2_anchor_offset.any()
    assert model.log2_anchor_offset.shape == (5, 5)
    with torch.no_grad():
        model.log2_anchor_offset += 0.25
    other = build_scopenet(seed=1, bin_size=0.75)
    start = other.log2_anchors.clone()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.log2_anchors, start + 0.25)


def test_uncertainty_does_not_change_the_state():
    with_it, without = build_scopenet().state_dict(), build_scopenet(uncertainty=False).state_dict()
    assert {k: v.shape for k, v in with_it.items()} == {k: v.shape for k, v in without.items()}


# --- end to end, as Detectron2 tests its RetinaNet ----------------------------------------------


@pytest.mark.parametrize(
    "overrides", [[], ["MODEL.SCOPENET.NUM_BINS", 1, "MODEL.SCOPENET.UNCERTAINTY", False]], ids=str
)
@pytest.mark.parametrize("num_boxes", [(0, 0), (0, 3)])
def test_training_with_empty_images(num_boxes, overrides):
    torch.manual_seed(0)
    model = build_model(small_config(*overrides, "MODEL.BACKBONE.FREEZE_AT", 0)).train()
    batch = random_inputs((100, 125), (100, 124))
    for x, n in zip(batch, num_boxes, strict=True):
        x["instances"] = random_ground_truth(n, 3, *x["image"].shape[1:])
    losses = model(batch)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_cls"] > 0
    assert (losses["loss_loc"] > 0) == any(num_boxes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_bad_outputs_never_make_a_finite_loss(value):
    model = build_scopenet((8, 16))
    predictions = random_predictions(model, [(8, 8), (4, 4)])
    predictions = [[torch.full_like(x, value) for x in maps] for maps in predictions]
    instances = [ground_truth([[8, 8, 50, 50]], [0])]
    losses = model.forward_training(None, None, predictions, instances)
    assert not any(loss.isfinite() for loss in losses.values())
    with EventStorage(), pytest.raises(FloatingPointError):
        SimpleTrainer.write_metrics(losses, data_time=0.0, cur_iter=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_pixels_or_features_give_no_detections(value):
    inputs = random_inputs((128, 128))
    model = spread_out_model(inputs)
    assert len(model(inputs)[0]["instances"]) > 5
    assert len(model([{"image": torch.full((3, 128, 128), value)}])[0]["instances"]) == 0
    features = [torch.full((1, 32, *size), value) for size in map_sizes(model, 128, 128)]
    images = ImageList(torch.zeros(1, 3, 128, 128), [(126, 128)])
    with torch.no_grad():
        (found,) = model.forward_inference(images, features, model.head(features))
    assert len(found) == 0


def test_detections_are_in_the_frame_of_the_input_s_height_and_width():
    inputs = random_inputs((96, 120))
    model = spread_out_model(inputs)
    (plain,) = model(inputs)
    (scaled,) = model([inputs[0] | {"height": 192, "width": 360}])
    assert plain["instances"].image_size == (96, 120)
    assert scaled["instances"].image_size == (192, 360)
    assert len(plain["instances"]) > 5
    boxes = plain["instances"].pred_boxes.tensor * torch.tensor([3.0, 2.0, 3.0, 2.0])
    torch.testing.assert_close(scaled["instances"].pred_boxes.tensor, boxes)
    assert torch.equal(plain["instances"].border_scores, scaled["instances"].border_scores)
    assert plain["instances"].pred_boxes.tensor.max() <= 120


def assert_same_detections(first, second):
    """Equal but for the rounding of sums in another order."""
    assert len(first) == len(second) > 5
    assert first.image_size == second.image_size
    assert torch.equal(first.pred_classes, second.pred_classes)
    for name in ("scores", "cls_scores", "loc_scores", "border_scores"):
        torch.testing.assert_close(first.get(name), second.get(name), rtol=1e-3, atol=1e-4)
    boxes = first.pred_boxes.tensor, second.pred_boxes.tensor
    torch.testing.assert_close(*boxes, rtol=1e-3, atol=1e-2)


def test_batched_equals_single():
    inputs = random_inputs((128, 128), (100, 120), (97, 128))  # all padded to 128 x 128
    model = spread_out_model(inputs)
    together = model(inputs)
    for x, output in zip(inputs, together, strict=True):
        assert_same_detections(model([x])[0]["instances"], output["instances"])


def test_flops_of_the_head():
    model = build_scopenet().eval()
    analysis = FlopCountAnalysis(model, random_inputs((128, 128)))
    # 3 x 3 convolutions at 256 + 64 + 16 + 4 + 1 locations: two towers from 3 to 8 channels, and
    # from 8 to 3 classes, 4 · 6 bin channels and 4 · 5 deltas.
    expected = 341 * 9 * (2 * 3 * 8 + 8 * (3 + 24 + 20))
    assert analysis.by_operator()["conv"] == expected


def test_flops_of_a_model_with_detections():
    inputs = random_inputs((128, 160))
    model = spread_out_model(inputs)
    analysis = FlopCountAnalysis(model, inputs)
    locations = 16 * 20 + 8 * 10 + 4 * 5 + 2 * 3 + 1 * 2
    head = locations * 9 * (2 * 32 * 32 + 32 * (3 + 24 + 20))
    assert analysis.by_module_and_operator()["model.head"]["conv"] == head
    assert analysis.by_operator()["conv"] > head


# Detectron2's own Python branches, none of which depends on the values.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning:(detectron2|torchvision)")
def test_trace_at_one_size_runs_at_another():
    inputs, others = random_inputs((128, 128)), random_inputs((96, 160), seed=1)
    model = spread_out_model(inputs + others)
    adapter = TracingAdapter(model, inputs)
    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    for x in (inputs, others):
        (expected,) = model(x)
        flattened = traced(x[0]["image"])
        (output,) = adapter.outputs_schema(flattened)
        found = output["instances"]
        found = type(found)(expected["instances"].image_size, **found.get_fields())
        assert_same_detections(found, expected["instances"])
    empty = adapter.outputs_schema(traced(torch.full((3, 64, 64), math.nan)))[0]["instances"]
    assert len(empty) == 0


# --- precision ----------------------------------------------------------------------------------


def test_bfloat16_losses_are_close_to_float32():
    inputs = random_inputs((128, 160), (128, 128))
    model = spread_out_model(inputs).train()
    batch = [
        x | {"instances": random_ground_truth(6, 3, *x["image"].shape[1:], seed=i)}
        for i, x in enumerate(inputs)
    ]
    expected = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(batch)
    # A product rounds its two inputs and its output to 8 bits, a relative error of 2^-9 / sqrt(3)
    # each; over some 25 layers sqrt(75) · 2^-9 / sqrt(3) = 1 %.
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.02), name
        assert loss.item() != expected[name].item()  # it did compute in bfloat16
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name


def test_bfloat16_detections():
    inputs = random_inputs((128, 160))
    model = spread_out_model(inputs)
    (expected,) = model(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        (output,) = model(inputs)
    found, best = output["instances"], expected["instances"]
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32
    # The best detections are those of float32, as the scores are spread out.
    torch.testing.assert_close(found.scores[:3], best.scores[:3], rtol=0.03, atol=0)
    assert torch.equal(found.pred_classes[:3], best.pred_classes[:3])
    torch.testing.assert_close(
        found.pred_boxes.tensor[:3], best.pred_boxes.tensor[:3], rtol=0.05, atol=1
    )


@pytest.mark.parametrize("training", [True, False])
def test_what_follows_the_head_ignores_autocast(training):
    """bfloat16 head outputs are computed with in float32: the same as their float32 copies."""
    model = build_scopenet((8, 16)).train(training)
    predictions = random_predictions(model, [(12, 12), (6, 6)], outliers=0.0)
    predictions = [[x.bfloat16() for x in maps] for maps in predictions]
    exact = [[x.float() for x in maps] for maps in predictions]
    instances = [random_ground_truth(5, 3, 96, 96)]
    images = ImageList(torch.zeros(1, 3, 96, 96), [(96, 96)])
    if training:
        expected = model.forward_training(None, None, exact, instances)
        with torch.autocast("cpu", torch.bfloat16):
            losses = model.forward_training(None, None, predictions, instances)
        assert {k: v.item() for k, v in losses.items()} == {
            k: v.item() for k, v in expected.items()
        }
    else:
        (expected,) = model.forward_inference(images, [], exact)
        with torch.autocast("cpu", torch.bfloat16):
            (found,) = model.forward_inference(images, [], predictions)
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
