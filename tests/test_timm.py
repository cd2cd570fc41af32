"""Backbones of timm: features, what is frozen, pretrained weights, and what goes wrong."""

import copy

import pytest
import torch
from builders import small_config, spread_out_head, write_checkpoint
from detectron2.config import LazyCall, instantiate
from detectron2.modeling import build_backbone, build_model
from safetensors.torch import save_file
from torch import nn

from scopenet import ConfigError, Detector, load_config
from scopenet.config_file import config_dir
from scopenet.engine.checkpoint import SafeCheckpointer
from scopenet.engine.checks import check_pixels_of_timm
from scopenet.engine.freezing import freeze
from scopenet.export.graph import DetectionGraph, capture
from scopenet.modeling.timm_backbone import TimmBackbone, pretrained_weights, timm_fpn

timm = pytest.importorskip("timm")
LITE0 = "tf_efficientnet_lite0"
ADDRESS = f"timm://{LITE0}.in1k"
# Small models of every kind: 'same' padding, activations in the norms or beside them, no batch
# normalization at all, features with the channels last.
NAMES = [LITE0, "resnet10t", "lcnet_035", "mobilenetv4_conv_small_035", "convnext_atto"]
NAMES += ["swin_tiny_patch4_window7_224", "repvgg_a0"]
IMAGES = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1


def timm_config(*overrides):
    options = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", LITE0]
    return small_config(*options, *overrides)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of Hugging Face with weights of LITE0 in it, all 0.5, which cannot be reached."""
    cache = tmp_path / "hub" / f"models--timm--{LITE0}.in1k"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    weights = timm.create_model(LITE0).state_dict()
    filled = {
        k: torch.full_like(x, 0.5) if x.is_floating_point() else x for k, x in weights.items()
    }
    save_file(filled, snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache.parent))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_timm(name):
    torch.manual_seed(0)
    backbone = TimmBackbone(name=name).eval()
    found = backbone(IMAGES)
    theirs = timm.create_model(name, features_only=True).eval()
    theirs.load_state_dict(backbone.model.state_dict())
    expected = theirs(IMAGES)[-3:]
    if name.startswith("swin"):
        expected = [x.permute(0, 3, 1, 2) for x in expected]
    for (key, x), y, stride in zip(found.items(), expected, (8, 16, 32), strict=True):
        shape = backbone.output_shape()[key]
        assert key == f"res{stride.bit_length() - 1}" and shape.stride == stride
        assert x.shape == (1, shape.channels, 224 // stride, 224 // stride)
        assert torch.equal(x, y) and x.std() > 0


def test_pyramid_takes_p6_from_p5():
    pyramid = timm_fpn(name="lcnet_035", out_channels=8).eval()
    found = pyramid(IMAGES)
    assert [x.shape[-1] for x in found.values()] == [28, 14, 7, 4, 2]
    assert torch.equal(found["p6"], pyramid.top_block.p6(found["p5"]))


@pytest.mark.parametrize("name", [LITE0, "resnet10t", "mobilenetv4_conv_small_035", "repvgg_a0"])
def test_frozen_stages_are_those_below_the_stride(name):
    """A parameter is frozen if and only if the features of stride 4 depend on it."""
    backbone = TimmBackbone(
        name=name, out_features=["res2", "res5"], freeze_at=0, freeze_norms=False
    )
    backbone.eval()(IMAGES)["res2"].sum().backward()
    below = {k for k, x in backbone.named_parameters() if x.grad is not None}
    frozen = TimmBackbone(name=name, freeze_at=2, freeze_norms=False)
    assert below and below == {k for k, x in frozen.named_parameters() if not x.requires_grad}


@pytest.mark.parametrize("freeze_norms", [True, False])
def test_frozen_norms_keep_statistics_and_activation(freeze_norms):
    torch.manual_seed(0)
    backbone = TimmBackbone(name=LITE0, freeze_at=0, freeze_norms=freeze_norms)
    before = copy.deepcopy(backbone.state_dict())
    norm = backbone.model.bn1
    assert [x.requires_grad for x in norm.parameters()] == [not freeze_norms] * 2
    backbone.train()(IMAGES)
    moved = [k for k, x in backbone.state_dict().items() if not torch.equal(x, before[k])]
    assert bool(moved) != freeze_norms
    backbone.eval()
    assert norm(torch.full((1, 32, 1, 1), -5.0)).unique().item() == 0  # its activation, ReLU6


def test_freezing_by_name_keeps_activation():
    model = nn.ModuleDict(
        {"backbone": timm.create_model(LITE0, features_only=True), "x": nn.Linear(1, 1)}
    )
    model.eval()
    expected = model["backbone"](IMAGES)
    freeze(model, ["backbone.*"])
    assert "Frozen" in type(model["backbone"].bn1).__name__
    for x, y in zip(model["backbone"](IMAGES), expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_pretrained_weights_are_taken_over(hub):
    model = build_model(timm_config())
    SafeCheckpointer(model).load(ADDRESS, checkpointables=[])
    state = model.backbone.bottom_up.state_dict()
    values = {k: x for k, x in state.items() if x.is_floating_point()}
    assert len(values) > 100 and all((x == 0.5).all() for x in values.values())
    assert not (model.head.cls_score.weight == 0.5).any()


def test_nothing_is_fetched_that_is_not_asked_for(hub):
    """Neither to build a model nor to load its own checkpoint."""
    for file in hub.rglob("*.safetensors"):
        file.unlink()
    cfg = timm_config("MODEL.WEIGHTS", ADDRESS)
    build_model(cfg)
    with pytest.raises(ConfigError, match="are not in the cache of Hugging Face here.*HF_HUB_OFF"):
        pretrained_weights(ADDRESS)


def test_own_checkpoint_needs_no_hub(hub, tmp_path):
    """A detector that was trained from pretrained weights is loaded without them, and finds the
    same at every size, the graph that is exported of it, too: "same" padding depends on it."""
    for file in hub.rglob("*.safetensors"):
        file.unlink()
    cfg = timm_config("MODEL.WEIGHTS", ADDRESS, "MODEL.PIXEL_STD", [60.0] * 3)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    pixels = torch.randint(256, (3, 96, 160), generator=torch.Generator().manual_seed(1))
    spread_out_head(model, [{"image": pixels}])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    write_checkpoint(tmp_path / "model_final.pth", model, cfg.dump())
    network = Detector.load(tmp_path).network
    graph = DetectionGraph(network.model, reverses_channels=False)
    exported = capture(graph).module()
    for height, width in ((96, 160), (65, 33), (256, 320)):
        image = pixels.repeat(1, 3, 2)[:, :height, :width].contiguous()
        (expected,) = model([{"image": image}])
        (found,) = network.detect([{"image": image}])
        assert len(expected["instances"]) > 3
        assert torch.equal(found["instances"].scores, expected["instances"].scores)
        for x in (graph, exported):
            boxes = x(image.permute(1, 2, 0).to(torch.uint8))[0]
            wanted = expected["instances"].pred_boxes.tensor
            torch.testing.assert_close(boxes, wanted, rtol=1e-3, atol=1e-2)


def test_lazy_config_builds_the_same_pyramid():
    lazy = LazyCall(timm_fpn)(name=LITE0, out_channels=16, freeze_at=1)
    cfg = timm_config("MODEL.FPN.OUT_CHANNELS", 16, "MODEL.BACKBONE.FREEZE_AT", 1)
    ours, theirs = build_backbone(cfg), instantiate(lazy)
    kept = [{k: x.requires_grad for k, x in m.named_parameters()} for m in (ours, theirs)]
    assert kept[0] == kept[1] and len({*kept[0].values()}) == 2
    assert ours.output_shape() == theirs.output_shape()


def test_unknown_names_are_told():
    with pytest.raises(ConfigError, match="MODEL.TIMM.NAME resnot: it has no such model"):
        TimmBackbone(name="resnot")
    with pytest.raises(ConfigError, match="it has no such model"):
        TimmBackbone(name="hf-hub:someone/something")  # would be downloaded
    with pytest.raises(ValueError, match="convnext_atto of timm has res2, .*res5, not res1"):
        TimmBackbone(name="convnext_atto", out_features=["res1", "res5"])
    with pytest.raises(ConfigError, match="knows no weights timm://resnet18.nothing"):
        pretrained_weights("timm://resnet18.nothing")


@pytest.mark.parametrize(
    "key, value",
    [
        ("INPUT.FORMAT", "BGR"),
        ("MODEL.PIXEL_MEAN", [103.5, 116.3, 123.7]),
        ("MODEL.PIXEL_STD", [1.0, 1.0, 1.0]),
    ],
)
def test_pixels_are_checked_against_the_weights(key, value):
    path = str(config_dir() / "light" / "ScopeNet_EfficientNet_Lite0_640.yaml")
    check_pixels_of_timm(load_config(path))
    cfg = load_config(path, [key, value])
    with pytest.raises(ConfigError, match=r"RGB images of mean \[127.5, 127.5, 127.5\].*set INPUT"):
        check_pixels_of_timm(cfg)
    cfg.MODEL.WEIGHTS = "model_final.pth"
    check_pixels_of_timm(cfg)
