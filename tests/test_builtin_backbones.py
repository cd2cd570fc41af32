"""ScopeNet on Detectron2's own backbones: padding, official weights, training and export."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from builders import ground_truth, spread_out_head, write_checkpoint
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from miniature import job, lazy_overrides, mini_datasets, one_thread
from torch import nn

from benchmark import light
from benchmark.contestants import Contestant
from benchmark.suites import Settings
from benchmark.workload import Case, random_inputs
from scopenet import ConfigError, Detector
from scopenet.config_file import config_dir, load_lazy_config, settings_of
from scopenet.engine.checkpoint import SafeCheckpointer
from scopenet.engine.command import main
from scopenet.engine.lazy import trainer_for
from scopenet.export import formats
from scopenet.export.exporting import export
from scopenet.export.graph import MAX_SIDE, check_side, longest_side
from scopenet.model_zoo.published_config import read_source
from scopenet.modeling.joint_batch import padded_size, padding_of
from scopenet.runtime import Predictor

pytestmark = pytest.mark.usefixtures("closed_logs")
REGNET = {"stem_width": 8, "depth": 6, "w_0": 8, "w_a": 16, "w_m": 2.5, "group_width": 8}
# Name of the file -> where its backbone is, and what makes that small.
SMALL = {
    "RegNetX_4GF_FPN_1x": ("bottom_up", REGNET),
    "RegNetY_4GF_FPN_1x": ("bottom_up", REGNET),
    "Swin_T_FPN_1x": (
        "bottom_up",
        {"embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4},
    ),
    "MViTv2_T_FPN_1x": (
        "bottom_up",
        {"embed_dim": 8, "depth": 4, "last_block_indexes": [0, 1, 2, 3]},
    ),
    "ViTDet_B_1x": (
        "net",
        {"embed_dim": 32, "depth": 2, "num_heads": 2, "window_block_indexes": [0]},
    ),
}
TRANSFORMERS = ("Swin_T_FPN_1x", "MViTv2_T_FPN_1x", "ViTDet_B_1x")
SQUARE = 256  # px


def small_config(name: str, square: int = 0):
    lazy = load_lazy_config(f"backbones/{name}.py", ["train.device=cpu"])
    where, options = SMALL[name]
    lazy.model.backbone[where].update(options)
    lazy.model.head.update(conv_dim=32, num_convs=1)
    if square:
        lazy.model.backbone.square_pad = square
    return lazy


def small_model(name: str, square: int = 0):
    torch.manual_seed(0)
    return instantiate(small_config(name, square).model)


def image(height: int, width: int) -> dict:
    return {"image": torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))}


def test_every_file_is_tried():
    found = {x.stem for x in (config_dir() / "backbones").glob("*.py")}
    assert found == SMALL.keys()


@pytest.mark.parametrize("name", SMALL)
def test_levels(name):
    model = small_model(name).eval()
    assert model.strides == [8, 16, 32, 64, 128]
    assert [*model.backbone.output_shape()] == model.head_in_features  # and no others
    assert model.backbone.top_block.in_feature == "p5"
    maps = model.predict([image(100, 150)])[2][0]  # padded to 128 x 160
    sizes = [(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)]
    assert [tuple(x.shape[-2:]) for x in maps] == sizes


@pytest.mark.parametrize("square", [0, 128])
def test_what_is_known_before_is_what_a_forward_pass_finds(square):
    """Of the pyramid that says in another way than all others what it has to be padded to."""
    model = small_model("ViTDet_B_1x", square).train()
    box = ground_truth([[8, 8, 60, 50]], [0], (70, 70))
    batch = [image(70, 70) | {"instances": box}]
    joint = model.joint_batch(batch)
    with EventStorage() as storage:
        model(batch)
        latest = storage.latest()
    per_image = [latest[f"positives_{x}_per_image"][0] for x in ("cls", "loc")]
    assert joint.num_positives.tolist() == per_image and per_image[0] > 0
    side = square or 96
    assert padded_size((70, 70), padding_of(model.backbone)) == (side, side)
    assert model.preprocess_image(batch).tensor.shape == (1, 3, side, side)


def test_an_image_larger_than_the_square():
    model = small_model("Swin_T_FPN_1x", 128)
    with pytest.raises(ConfigError, match=r"up to 129 x 128 px do not fit .*square_pad, 128: "):
        model.preprocess_image([image(128, 30), image(64, 129)])
    assert model.preprocess_image([image(128, 128)]).tensor.shape == (1, 3, 128, 128)


@pytest.mark.parametrize("name", SMALL)
def test_squares_that_an_export_needs(name):
    is_transformer = name in TRANSFORMERS
    model = small_model(name)
    if is_transformer:
        with pytest.raises(ConfigError, match="square_pad is 0 and must be at least 1333 px"):
            check_side(model, 1333)
    else:
        check_side(model, 1333)
    model = small_model(name, 128)
    check_side(model, 128)
    with pytest.raises(ConfigError, match="square_pad is 128 and must be at least 129 px"):
        check_side(model, 129)
    with pytest.raises(ConfigError, match="must be at least 16384 px"):
        check_side(model, 0)  # images are not resized


@pytest.mark.parametrize("name", SMALL)
def test_official_weights_are_taken_over(name, tmp_path):
    """From a file laid out as the one that the config names."""
    lazy = small_config(name)
    file, _, query = lazy.train.init_checkpoint.partition("?")
    backbone = getattr(instantiate(lazy.model).backbone, SMALL[name][0])
    weights = {
        k: torch.rand_like(x) for k, x in backbone.state_dict().items() if x.is_floating_point()
    }
    weights |= {"head.weight": torch.rand(10, 4)}  # of the classifier, and unknown here
    is_pycls = file.endswith(".pyth")
    content = (
        {"model_state": weights, "epoch": 99, "cfg": "x: 1"} if is_pycls else {"model": weights}
    )
    path = tmp_path / ("x.pyth" if is_pycls else "x.pth")
    torch.save(content, path)
    model = instantiate(lazy.model)
    SafeCheckpointer(model).load(f"{path}?{query}", [])
    found = getattr(model.backbone, SMALL[name][0]).state_dict()
    assert len(weights) > 20
    for key, x in weights.items():
        assert key == "head.weight" or torch.equal(found[key], x), key


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in SMALL:
        if name in TRANSFORMERS:
            with pytest.raises(ConfigError, match=r'pip install "scopenet\[timm\]"'):
                load_lazy_config(f"backbones/{name}.py")
        else:
            load_lazy_config(f"backbones/{name}.py")


def test_what_plain_yaml_cannot_hold():
    """Published and exported models carry their config in plain YAML."""
    for name in SMALL:
        read_source(f"backbones/{name}.py")
    lazy = small_config("ViTDet_B_1x")
    model = instantiate(lazy.model)
    assert {x.eps for x in model.backbone.net.modules() if isinstance(x, nn.LayerNorm)} == {1e-6}
    cfg = settings_of(lazy)
    optimizer = trainer_for(lazy).build_optimizer(cfg, model)
    names = {x: name for name, x in model.named_parameters()}
    groups = optimizer.param_groups
    rates = {names[x]: g["lr"] / lazy.optimizer.lr for g in groups for x in g["params"]}
    # Of a depth of 2: the patches, the blocks, all else.
    assert rates["backbone.net.patch_embed.proj.weight"] == pytest.approx(0.7**3)
    assert rates["backbone.net.blocks.0.mlp.fc1.weight"] == pytest.approx(0.7**2)
    assert rates["head.cls_score.weight"] == 1


MINIATURE = """
from detectron2.layers import ShapeSpec

from scopenet.config_file import load_lazy_config

lazy = load_lazy_config("backbones/{name}.py")
dataloader, lr_multiplier, optimizer = lazy.dataloader, lazy.lr_multiplier, lazy.optimizer
model, train = lazy.model, lazy.train
del lazy
model.backbone.{where}.update({options})
model.backbone.out_channels = 32
model.head.update(input_shape=[ShapeSpec(channels=32)] * 5, conv_dim=32, num_convs=1)
model.backbone.square_pad = {square}
dataloader.test.mapper.augmentations[0].max_size = 128
"""


def write_config(folder: Path, name: str) -> Path:
    where, options = SMALL[name]
    square = SQUARE if name in TRANSFORMERS else 0
    path = folder / "small.py"
    path.write_text(MINIATURE.format(name=name, where=where, options=options, square=square))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


def weights_of(path: Path) -> dict:
    return torch.load(path, weights_only=True)["model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_trains_and_resumes(name, data, tmp_path):
    config, whole, resumed = write_config(tmp_path, name), tmp_path / "whole", tmp_path / "resumed"
    more = "train.seed=0", "train.checkpointer.period=1"
    main(job(str(config), *lazy_overrides(whole, *more)))
    final = weights_of(whole / "model_final.pth")
    first = weights_of(whole / "model_0000000.pth")
    moved = [k for k, x in final.items() if not torch.equal(x, first[k])]
    assert any(k.startswith(f"backbone.{SMALL[name][0]}.") for k in moved)
    resumed.mkdir()
    shutil.copy(whole / "model_0000000.pth", resumed)
    (resumed / "last_checkpoint").write_text("model_0000000.pth")
    main(job(str(config), "--resume", *lazy_overrides(resumed, *more)))
    again = weights_of(resumed / "model_final.pth")
    assert all(torch.equal(x, again[k]) for k, x in final.items())


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random spots, (height, width, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.slow
@pytest.mark.parametrize("name", [x for x in SMALL if x != "RegNetX_4GF_FPN_1x"])  # Y has more
def test_exports(name, tmp_path, monkeypatch):
    """What does not find the same is refused, see tests/test_export.py."""
    config = write_config(tmp_path, name)
    overrides = lazy_overrides(tmp_path)
    torch.manual_seed(0)
    model = instantiate(load_lazy_config(str(config), overrides).model).eval()
    for key, x in model.backbone.named_parameters():
        if "rel_pos" in key or "relative_position" in key:  # which start at 0
            nn.init.normal_(x)
    pixels = torch.from_numpy(photo(200, 256)[:, :, ::-1].copy()).permute(2, 0, 1)
    spread_out_head(model, [{"image": pixels}])
    weights = str(write_checkpoint(tmp_path / "model.pth", model, ""))
    network = Detector.load(config, weights=weights, overrides=overrides).network
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, size in enumerate([(120, 90), (64, 128), (33, 47)]):
        cv2.imwrite(str(photos / f"{i}.png"), photo(*size, seed=i))
    options = {"precision": "float32", "images": str(photos), "num_images": 0}
    options |= {"calibration": "", "num_calibration_images": 0}
    path, verification = export(network, "onnx", tmp_path / "out", **options)
    assert verification.on_images.detections > 50 and verification.at_sizes.detections > 50
    # What OpenVINO reads is the same file, whose making takes most of the time.
    monkeypatch.setattr(formats, "write_onnx", lambda graph, metadata, to: shutil.copy(path, to))
    path, verification = export(network, "openvino", tmp_path / "out", **options)
    assert verification.on_images.detections > 50 and verification.at_sizes.detections > 50
    found, expected = Predictor(path)(photo(90, 130)), network(photo(90, 130))
    boxes = [x["instances"].pred_boxes.tensor for x in (found, expected)]
    torch.testing.assert_close(*boxes, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", ["RegNetX_4GF_FPN_1x", "ViTDet_B_1x"])
def test_benchmark_exports_squares_of_the_images_size(name, monkeypatch):
    """Of transformers, for which it costs nothing more; of others what takes images of any size."""
    longest = []
    monkeypatch.setattr(light, "export", lambda model, *_: longest.append(longest_side(model)))
    monkeypatch.setattr(light, "load_backend", lambda _: None)
    monkeypatch.setattr(light, "_fix_size", lambda *_: None)
    contestant, settings = Contestant(name, small_model(name)), Settings(torch.device("cpu"))
    contestant.imitate_training(random_inputs(Case(1, 256, 256, 0), 80, "cpu"))
    for size in (64, 96):
        light.LightSuite()._forms(contestant, Case(1, size, size, 0), settings, [], Path())
    assert longest == ([64, 64, 96, 96] if name in TRANSFORMERS else [MAX_SIDE] * 4)
