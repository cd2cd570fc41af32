"""Exported detectors find what the original finds; what does not is refused, and leaves nothing."""

import copy
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from builders import small_config, spread_out_head, write_checkpoint
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from miniature import TRAIN, VAL, mini_datasets
from torch import nn

from scopenet import ConfigError, Detector, cli
from scopenet.engine.network import Network
from scopenet.export import exporting
from scopenet.export.exporting import export
from scopenet.export.formats import load_pt2, load_torchscript
from scopenet.export.graph import DetectionGraph
from scopenet.export.verification import Agreement, Verification, compare, find_samples, spread
from scopenet.images import read_image
from scopenet.modeling.border_errors import START
from scopenet.runtime import Predictor


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random spots, (height, width, 3) uint8: neither flat nor noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A ScopeNet whose outputs are far apart, with the config that it is for."""
    folder = tmp_path_factory.mktemp("detector")
    cfg = small_config("DATASETS.TRAIN", (TRAIN,), "DATASETS.TEST", (VAL,))
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 160
    cfg.INPUT.FORMAT = "RGB"
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    pixels = torch.from_numpy(photo(256, 320)[:, :, ::-1].copy()).permute(2, 0, 1)
    spread_out_head(model, [{"image": pixels}])
    (folder / "config.yaml").write_text(cfg.dump())
    return write_checkpoint(folder / "model.pth", model, cfg.dump())


def load(checkpoint: Path, *overrides: str) -> Network:
    config = checkpoint.parent / "config.yaml"
    return Detector.load(config, weights=str(checkpoint), overrides=overrides).network


@pytest.fixture(scope="module")
def network(checkpoint) -> Network:
    return load(checkpoint)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("photos")
    for i, size in enumerate([(120, 90), (64, 200), (300, 300), (96, 96), (33, 47)]):
        cv2.imwrite(str(folder / f"{i}.png"), photo(*size, seed=i))
    (folder / "notes.txt").write_text("no image")
    return str(folder)


def run_export(network, format_name, output, photos, precision="float32"):
    return export(
        network,
        format_name,
        output,
        precision=precision,
        images=photos,
        num_images=0,
        calibration=photos,
        num_calibration_images=3,
    )


# --- the graph ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (64, 96), (130, 70)])
def test_graph_is_the_model(network, size):
    graph = DetectionGraph(network.model, reverses_channels=True)
    with torch.no_grad():
        found = graph(torch.from_numpy(photo(*size)))
    (expected,) = network.detect([network.as_input(photo(*size), size)])
    expected = expected["instances"]
    fields = expected.pred_boxes.tensor, expected.scores, expected.pred_classes
    fields += expected.cls_scores, expected.loc_scores, expected.border_scores
    assert len(expected) > 3 or size == (1, 1)
    for a, b in zip(found, fields, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_graph_leaves_the_model_as_it_was(network):
    before = {k: x.clone() for k, x in network.model.state_dict().items()}
    DetectionGraph(network.model, reverses_channels=False)
    after = network.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(x, after[k]) for k, x in before.items())
    assert any(x.requires_grad for x in network.model.parameters())


# --- agreement ------------------------------------------------------------------------------------


def instances(boxes, scores, classes=None, borders=0.5) -> Instances:
    scores = torch.tensor(scores, dtype=torch.float32)
    return Instances(
        (100, 100),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=scores,
        pred_classes=torch.tensor(classes or [0] * len(scores)),
        cls_scores=scores.clone(),
        loc_scores=scores.clone(),
        border_scores=torch.full((len(scores), 4), borders),
    )


BOX = [10.0, 10, 50, 50]


@pytest.mark.parametrize(
    "found, precision, counted, matched",
    [
        (instances([BOX], [0.8]), "float32", 2, 2),
        (instances([[10.4, 10, 50, 50]], [0.8]), "float32", 2, 2),
        (instances([[10.6, 10, 50, 50]], [0.8]), "float32", 2, 0),
        (instances([[10.6, 10, 50, 50]], [0.8]), "bfloat16", 2, 2),
        (instances([BOX], [0.802]), "float32", 2, 0),
        (instances([BOX], [0.802]), "int8", 2, 2),
        (instances([BOX], [0.8], borders=0.6), "float32", 2, 0),
        (instances([BOX], [0.8], [1]), "int8", 2, 0),
        # 40 x 40 px against 40 x 45: IoU 8 / 9
        (instances([[10, 10, 50, 55]], [0.8]), "int8", 2, 0),
        (instances([[10, 10, 50, 54]], [0.8]), "int8", 2, 2),
        # A counterpart below the threshold; only the detection above counts.
        (instances([BOX], [0.09]), "int8", 1, 1),
        (instances([], []), "int8", 1, 0),
        # One counterpart serves once.
        (instances([BOX, BOX], [0.8, 0.7]), "int8", 3, 2),
        # Low ones without a counterpart do not count.
        (instances([BOX, [60, 60, 90, 90]], [0.8, 0.06]), "float32", 2, 2),
    ],
)
def test_agreement_worked_by_hand(found, precision, counted, matched):
    agreement = compare(instances([BOX], [0.8]), found, precision=precision)
    assert (agreement.detections, agreement.matched) == (counted, matched)


def test_agreement_of_nothing():
    empty = instances([], [])
    assert compare(empty, empty, precision="float32") == Agreement()
    assert Agreement().share == 1.0
    assert Agreement(4, 3).share == 0.75


def test_differences_are_the_largest():
    a = compare(instances([BOX], [0.8]), instances([[10.25, 10, 50, 50]], [0.8]), precision="int8")
    b = compare(instances([BOX], [0.8]), instances([BOX], [0.7]), precision="int8")
    assert (a + b).max_box_difference == 0.25
    assert (a + b).max_score_difference == pytest.approx(0.1)
    assert ((a + b).detections, (a + b).matched) == (4, 4)


GOOD = Verification(5, Agreement(1000, 1000), Agreement(1000, 1000), 40.0, 40.0)


@pytest.mark.parametrize(
    "change, precision, is_good",
    [
        ({}, "float32", True),
        ({"on_images": Agreement(1000, 981)}, "float32", True),
        ({"on_images": Agreement(1000, 979)}, "float32", False),
        ({"at_sizes": Agreement(1000, 900)}, "float32", False),
        ({"at_sizes": Agreement(1000, 610)}, "bfloat16", True),
        ({"at_sizes": Agreement(1000, 590)}, "bfloat16", False),
        ({"at_sizes": Agreement(1000, 10)}, "int8", True),
        ({"at_sizes": Agreement(1000, 0), "on_images": Agreement(1000, 990)}, "int8", False),
        ({"exported_ap": 39.91}, "float32", True),
        ({"exported_ap": 39.89}, "float32", False),
        ({"exported_ap": 39.81}, "bfloat16", True),
        ({"exported_ap": 39.79}, "bfloat16", False),
        ({"exported_ap": 39.61}, "int8", True),
        ({"exported_ap": 39.59}, "int8", False),
        ({"exported_ap": float("nan")}, "int8", False),
        ({"exported_ap": 41.0}, "float32", True),
        ({"ap": None, "exported_ap": None}, "float32", True),
        ({"on_images": Agreement()}, "float32", False),
        ({"at_sizes": Agreement()}, "float32", False),
    ],
)
def test_bounds(change, precision, is_good):
    verification = replace(GOOD, **change)
    if is_good:
        verification.check(precision)
    else:
        with pytest.raises(ConfigError):
            verification.check(precision)


# --- images ---------------------------------------------------------------------------------------


def test_spread():
    assert spread("abcdefghij", 5) == ["a", "c", "e", "g", "i"]
    assert spread("abc", 5) == ["a", "b", "c"]


def test_images_of_a_folder(photos):
    assert [Path(x["file_name"]).name for x in find_samples(photos, 2)] == ["0.png", "2.png"]
    assert read_image(find_samples(photos, 1)[0]["file_name"]).shape == (120, 90, 3)


def test_images_that_are_none(network, tmp_path):
    with pytest.raises(ConfigError, match="neither a registered data set nor a folder"):
        find_samples(str(tmp_path / "missing"), 0)
    with pytest.raises(ConfigError, match="holds no .*png"):
        find_samples(str(tmp_path), 0)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"a\.jpg cannot be read"):
        run_export(network, "torchscript", tmp_path / "out", str(tmp_path))
    assert not list((tmp_path / "out").iterdir())


# --- what is refused ------------------------------------------------------------------------------


def test_precision_that_a_format_has_not(network, tmp_path, photos):
    with pytest.raises(ConfigError, match="onnx has no precision int8, only float32"):
        run_export(network, "onnx", tmp_path / "out", photos, "int8")
    assert not (tmp_path / "out").exists()


def test_other_detectors(network, tmp_path, photos):
    other = replace(network, model=torch.nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="Only a ScopeNet can be exported, not Linear"):
        run_export(other, "onnx", tmp_path, photos)


def test_test_time_augmentation(checkpoint, tmp_path, photos):
    with pytest.raises(ConfigError, match="Only a ScopeNet can be exported, not ScopeNetWithTTA"):
        run_export(load(checkpoint, "TEST.AUG.ENABLED", "True"), "onnx", tmp_path, photos)


def test_other_resizing(network, tmp_path, photos):
    from detectron2.data import DatasetMapper
    from detectron2.data import transforms as T

    for augmentations in (
        [T.Resize((64, 64))],
        [T.ResizeShortestEdge((64, 96), sample_style="range")],
    ):
        mapper = DatasetMapper(is_train=False, augmentations=augmentations, image_format="BGR")
        with pytest.raises(ConfigError, match="only knows ResizeShortestEdge of one size"):
            run_export(replace(network, mapper=mapper), "onnx", tmp_path, photos)


def test_an_export_that_differs_leaves_nothing(network, tmp_path, photos, monkeypatch):
    """The file that is verified is the one on disk: here one with another channel order."""
    (tmp_path / "model.ts").write_text("the one before")
    monkeypatch.setattr(
        exporting,
        "DetectionGraph",
        lambda model, **_: DetectionGraph(model, reverses_channels=False),
    )
    with pytest.raises(ConfigError, match="does not find what the original finds"):
        run_export(network, "torchscript", tmp_path, photos)
    assert [x.name for x in tmp_path.iterdir()] == ["model.ts"]
    assert (tmp_path / "model.ts").read_text() == "the one before"


def ends_with(*arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.run("export", [str(x) for x in arguments])
    return str(stop.value)


def test_program_ends_with_a_sentence(checkpoint, tmp_path):
    arguments = ["--model", checkpoint.parent / "config.yaml", "--weights", checkpoint]
    arguments += ["--format", "pt2", "--output", tmp_path / "out"]
    assert ends_with(*arguments, "--images", "nowhere") == (
        "error: nowhere is neither a registered data set nor a folder of images."
    )
    bad = ends_with(*arguments, "--images", "x", "DATASETS.TEST", "(1, 2)")
    assert bad.startswith("error: ")
    two = ends_with(*arguments, "DATASETS.TEST", "('a', 'b')")
    assert two == "error: The config names 2 data sets; choose one with --images."
    (tmp_path / "file").touch()
    under = [*arguments[:-1], tmp_path / "file" / "out", "--images", checkpoint.parent]
    cv2.imwrite(str(checkpoint.parent / "x.png"), photo(64, 64))
    assert ends_with(*under).startswith(f"error: {tmp_path / 'file'}")


def test_an_exported_file_is_no_source(tmp_path, monkeypatch):
    class Predictor:
        class_names = ["cat"]

        def __init__(self, path, *, device, batch_size, num_threads):
            pass

    monkeypatch.setattr("scopenet.runtime.Predictor", Predictor)
    message = ends_with("--model", "x.onnx", "--format", "pt2", "--output", tmp_path)
    assert message == "error: x.onnx is exported already; name the config or the training."


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    config = "Digits-ScopeNet_R_18_FPN.yaml"
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    arguments = ["--model", config, "--format", "pt2", "--output", tmp_path]
    message = ends_with(*arguments, "--weights", "http://localhost:1/x.pth")
    assert message.startswith("error: The weights could not be downloaded (")


# --- the formats ----------------------------------------------------------------------------------


def check_metadata(metadata):
    assert metadata.class_names == ["red", "green", "blue"]
    assert (metadata.min_size, metadata.max_size) == (96, 160)
    assert metadata.thresholds["nms_thresh"] == 0.5
    assert "META_ARCHITECTURE: ScopeNet" in metadata.config


@pytest.mark.slow
@pytest.mark.parametrize(
    "format_name, load", [("pt2", load_pt2), ("torchscript", load_torchscript)]
)
def test_formats_of_pytorch(network, tmp_path, photos, format_name, load):
    path, verification = run_export(network, format_name, tmp_path, photos)
    assert verification.on_images.detections > 50 and verification.at_sizes.detections > 50
    assert verification.on_images.share == verification.at_sizes.share == 1.0
    backend = load(path)
    check_metadata(backend.metadata)
    assert backend(np.zeros((1, 1, 3), np.uint8)).boxes.shape == (0, 4)  # NMS leaves no box
    if format_name == "pt2":  # TorchScript keeps the source lines for its stack traces
        archive = zipfile.ZipFile(path)
        contents = b"".join(archive.read(x) for x in archive.namelist())
        assert b"torch.ops.aten" in contents
        assert b"site-packages" not in contents and b"graph.py" not in contents


def assert_batched_is_single(path: Path) -> None:
    """Of images of several sizes, three of which are worked on at a time."""
    images = [photo(*size, seed=i) for i, size in enumerate([(90, 130), (64, 96), (130, 70)] * 3)]
    single, batched = Predictor(path), Predictor(path, batch_size=3, num_threads=2)
    for ours, image in zip(batched(images), images, strict=True):
        found, expected = ours["instances"], single(image)["instances"]
        assert found.pred_classes.tolist() == expected.pred_classes.tolist() and len(found) > 3
        boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
        torch.testing.assert_close(*boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_onnx_and_openvino(network, tmp_path, photos):
    import openvino

    for format_name in ("onnx", "openvino"):
        path, verification = run_export(network, format_name, tmp_path, photos)
        assert verification.on_images.detections > 50 and verification.at_sizes.detections > 50
        assert verification.on_images.share == verification.at_sizes.share == 1.0
        predictor = Predictor(path)
        check_metadata(predictor.metadata)
        backend = exporting.FORMATS[format_name].load(path)
        assert len(backend(np.zeros((1, 1, 3), np.uint8)).boxes) == 0  # NMS leaves no box
        expected = network(photo(90, 130))["instances"]
        found = predictor([photo(90, 130)])[0]["instances"]
        assert len(found) == len(expected) > 10
        torch.testing.assert_close(
            found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=0.01
        )
        assert_batched_is_single(path)
        assert b"site-packages" not in path.read_bytes()
        report = json.loads((tmp_path / f"verification.{format_name}.json").read_text())
        assert report["on_images"]["matched"] == verification.on_images.matched
    model = openvino.Core().read_model(tmp_path / "model.onnx")
    assert [str(x) for x in model.input(0).partial_shape] == ["?", "?", "3"]
    names = {x.name for x in tmp_path.iterdir()}
    expected = {"model.onnx", "model.xml", "model.bin"}
    assert names == expected | {"verification.onnx.json", "verification.openvino.json"}


@pytest.mark.slow
def test_expected_borders_and_their_errors(network, tmp_path, photos):
    model = copy.deepcopy(network.model)
    model.decoding, model.error_weights = "expectation", nn.Parameter(torch.tensor(START))
    beyond = replace(network, model=model)
    expected = beyond(photo(90, 130))["instances"]
    assert len(expected) > 5 and not network(photo(90, 130))["instances"].has("border_stds")
    for format_name in ("onnx", "openvino"):
        path, verification = run_export(beyond, format_name, tmp_path, photos)
        assert verification.on_images.detections > 50
        assert verification.on_images.share == verification.at_sizes.share == 1.0
        found = Predictor(path)(photo(90, 130))["instances"]
        for name, atol in (("border_scores", 1e-3), ("border_stds", 0.01)):
            ours, theirs = found.get(name), expected.get(name)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.slow
def test_borders_and_their_errors_in_8_bit_integers(network, tmp_path, photos, monkeypatch):
    """What follows the convolutions is not quantized. The network is not trained: see below."""
    monkeypatch.setattr(Verification, "check", lambda self, precision: None)
    model = copy.deepcopy(network.model)
    model.decoding, model.error_weights = "expectation", nn.Parameter(torch.tensor(START))
    args = replace(network, model=model), "openvino", tmp_path, photos, "int8"
    path, verification = run_export(*args)
    assert verification.on_images.detections > 50
    found = Predictor(path)(photo(90, 130))["instances"]
    assert len(found) > 5 and (found.border_stds > 0).all()
    quantized = re.findall(r'name="(\S+)/fq_', path.read_text())
    assert len(quantized) > 30 and not [x for x in quantized if "matmul" in x.lower()]


@pytest.mark.slow
def test_int8_on_a_data_set(checkpoint, tmp_path, monkeypatch, capsys):
    """The program, with the config's own data sets. The network is not trained, so quantization
    changes more than is allowed; what is asserted is that it is quantized, and verified."""
    seen = []
    monkeypatch.setattr(Verification, "check", lambda self, precision: seen.append(precision))
    with mini_datasets(tmp_path / "data"):
        arguments = ["--config-file", str(checkpoint.parent / "config.yaml"), "--format"]
        arguments += ["openvino", "--precision", "int8", "--weights", str(checkpoint)]
        cli.run("export", [*arguments, "--output", str(tmp_path / "out")])
    assert seen == ["int8"]
    assert "; AP " in capsys.readouterr().out  # the data set has annotations
    text = (tmp_path / "out" / "model.xml").read_text()
    assert text.count('type="FakeQuantize"') > 30
    assert (tmp_path / "out" / "model.bin").stat().st_size < checkpoint.stat().st_size / 3
    assert Predictor(tmp_path / "out" / "model.xml").metadata.precision == "int8"
