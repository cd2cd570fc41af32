"""One trained detector, whatever it is loaded from: what it finds, and what is refused."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from builders import write_checkpoint, write_detector
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Instances
from miniature import VAL, lazy_overrides, mini_datasets, one_thread
from zoos import publish_small, refusal

from scopenet import ConfigError, Detector, ScopeNetWithTTA, load_config
from scopenet.config_file import load_lazy_config
from scopenet.engine.network import _classes as classes_of
from scopenet.errors import ImageError

CONFIG = "configs/ScopeNet_R_50_FPN_1x.yaml"
LAZY = "configs/ScopeNet_R_50_FPN_1x.py"


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with mini_datasets(folder), one_thread():
        yield folder


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Path:
    """The output folder of a training, on a GPU and on a data set that is not registered here."""
    folder = tmp_path_factory.mktemp("training")
    cfg = write_detector(folder / "model_final.pth")
    cfg.MODEL.DEVICE = "cuda"
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


@pytest.fixture(scope="module")
def detector(training) -> Detector:
    return Detector.load(training)


@pytest.fixture(scope="module")
def photo(data) -> Path:
    return data / VAL / "000000000001.png"


def config_of(training: Path, *overrides: str) -> CfgNode:
    return load_config(str(training / "config.yaml"), ["MODEL.DEVICE", "cpu", *overrides])


def assert_same(found: Instances, expected: Instances) -> None:
    assert found.image_size == expected.image_size
    assert found.get_fields().keys() == expected.get_fields().keys()
    for name, value in expected.get_fields().items():
        value, other = (getattr(x, "tensor", x) for x in (value, found.get(name)))
        assert torch.equal(value, other), name


# --- what it finds --------------------------------------------------------------------------------


def test_it_is_detectron2s_default_predictor(training, photo):
    overrides = ["INPUT.MIN_SIZE_TEST", "50"]
    weights = str(training / "model_final.pth")
    reference = DefaultPredictor(config_of(training, *overrides, "MODEL.WEIGHTS", weights))
    config = str(training / "config.yaml")
    overrides += ["MODEL.DEVICE", "cpu"]
    detector = Detector.load(config, weights=weights, overrides=overrides)
    image = cv2.imread(str(photo))
    found, expected = detector(image)["instances"], reference(image.copy())["instances"]
    assert len(found) > 10 and found.image_size == image.shape[:2]
    assert_same(found, expected)
    # The names of the checkpoint, as the data set is not there.
    assert (detector.class_names, detector.category_ids) == (["red", "green", "blue"], [1, 2, 3])
    assert detector.name == "config" and detector.network.model.device.type == "cpu"


def test_arrays_paths_and_lists(detector, photo):
    image = cv2.imread(str(photo))
    expected = detector(image)["instances"]
    assert_same(detector(str(photo))["instances"], expected)
    assert_same(detector(photo)["instances"], expected)
    found = detector([photo, image[:40], str(photo)])
    assert [x["instances"].image_size for x in found] == [(64, 96), (40, 96), (64, 96)]
    assert_same(found[2]["instances"], expected)
    assert detector([]) == []


def test_test_time_augmentation(training, detector, photo):
    overrides = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(80, 96)"]
    overrides += ["TEST.AUG.FLIP", "False"]
    augmented = Detector.load(training, overrides=overrides)
    image = cv2.imread(str(photo))
    pixels = torch.from_numpy(image[:, :, ::-1].astype("float32").transpose(2, 0, 1))
    model = ScopeNetWithTTA(
        model=detector.network.model, min_sizes=(80, 96), max_size=4000, flip=False
    )
    with torch.no_grad():
        (expected,) = model([{"image": pixels, "height": 64, "width": 96}])
    found = augmented(image)["instances"]
    assert torch.equal(found.scores, expected["instances"].scores)
    assert not torch.equal(found.scores[:5], detector(image)["instances"].scores[:5])
    with pytest.raises(ConfigError, match="MIN_SIZES is empty"):
        Detector.load(training, overrides=[*overrides, "TEST.AUG.MIN_SIZES", "()"])


def test_names_and_ids_of_classes():
    names, ids = classes_of(None, ("absent", "coco_2017_val"), 80)
    assert (names[0], ids[0], names[79], ids[79]) == ("person", 1, "toothbrush", 90)
    assert classes_of(names, ("coco_2017_val",), 80) == (names, ids)
    # Another model than of this data set: its own names, and then none of them.
    other = [f"kind {i}" for i in range(80)]
    assert classes_of(other, ("coco_2017_val",), 80) == (other, list(range(1, 81)))
    assert classes_of(["x"], ("coco_2017_val",), 2) == (["0", "1"], [1, 2])
    assert classes_of("ab", (), 2)[0] == ["0", "1"]


# --- what it is loaded from -----------------------------------------------------------------------


def test_a_training_gives_its_best_model_or_else_its_last(training, detector, photo, tmp_path):
    for name in ("config.yaml", "model_final.pth"):
        os.link(training / name, tmp_path / name)
    best = build_model(config_of(training))
    write_checkpoint(tmp_path / "model_best.pth", best, "")
    found = Detector.load(str(tmp_path))
    assert found.name == tmp_path.name and found.network.model.device.type == "cpu"
    for key, value in best.state_dict().items():
        assert torch.equal(found.network.model.state_dict()[key], value), key
    (tmp_path / "model_best.pth").unlink()
    assert_same(Detector.load(tmp_path)(photo)["instances"], detector(photo)["instances"])
    (tmp_path / "model_final.pth").unlink()
    message = refusal(Detector.load, tmp_path)
    assert message == f"{tmp_path} has neither model_best.pth nor model_final.pth."
    other = Detector.load(tmp_path, weights=str(training / "model_final.pth"))
    assert_same(other(photo)["instances"], detector(photo)["instances"])


def test_lazy_config(training, tmp_path):
    overrides = lazy_overrides(tmp_path)
    config = load_lazy_config(LAZY, overrides)
    weights = tmp_path / "model_final.pth"
    torch.save({"model": instantiate(config.model).state_dict()}, weights)
    detector = Detector.load(LAZY, weights=str(weights), overrides=overrides)
    assert detector.class_names == ["red", "green", "blue"]  # of the data set
    image = np.zeros((64, 96, 3), np.uint8)
    assert detector(image)["instances"].image_size == (64, 96)
    # A YAML file does not hold all that a LazyConfig says.
    LazyConfig.save(config, str(tmp_path / "config.yaml"))
    message = refusal(Detector.load, tmp_path)
    assert "was trained from a LazyConfig" in message and "name its .py file" in message


def test_a_config_that_was_read_already_is_left_as_it_was(training, detector, photo):
    config = config_of(training, "MODEL.WEIGHTS", str(training / "model_final.pth"))
    config.freeze()
    loaded = Detector.load(config, device="cpu")
    assert_same(loaded(photo)["instances"], detector(photo)["instances"])
    config.defrost()
    few = Detector.load(config, overrides=["TEST.DETECTIONS_PER_IMAGE", "3"])
    assert len(few(photo)["instances"]) == 3 and config.TEST.DETECTIONS_PER_IMAGE == 100


def test_a_published_model(tmp_path, monkeypatch):
    zoo = publish_small(tmp_path) / "zoo"
    monkeypatch.setenv("SCOPENET_MODEL_ZOO", str(zoo))
    detector = Detector.load("ScopeNet_R_50_FPN_1x")
    assert detector.name == "ScopeNet_R_50_FPN_1x"
    expected = torch.load(tmp_path / "x.pth", weights_only=True)["model"]
    for key, value in detector.network.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert detector.class_names == ["red", "green", "blue"]  # of a data set that is not known here
    assert "Faster_R_CNN" in refusal(Detector.load, "Faster_R_CNN")


class ExportedPredictor:
    """In place of what runs exported files."""

    class_names = ["cat", "dog"]

    def __init__(self, path, *, device, batch_size, num_threads):
        self.path, self.device, self.batch_size = path, device, batch_size

    def __call__(self, image):
        return {"instances": (image.shape, self.path.name, self.device)}


def test_an_exported_file(photo, tmp_path, monkeypatch):
    monkeypatch.setattr("scopenet.runtime.Predictor", ExportedPredictor)
    (tmp_path / "model.xml").touch()
    (tmp_path / "model.bin").touch()
    for source in (tmp_path, tmp_path / "model.xml", str(tmp_path / "model.xml")):
        detector = Detector.load(source)
        assert detector(photo) == {"instances": ((64, 96, 3), "model.xml", "cpu")}
    assert (detector.name, detector.network) == ("model", None)
    assert (detector.class_names, detector.category_ids) == (["cat", "dog"], [1, 2])
    image = np.zeros((4, 5, 3), np.uint8)
    other = Detector.load(tmp_path, device="gpu")([image])
    assert other == [{"instances": ((4, 5, 3), "model.xml", "gpu")}]
    assert Detector.load(tmp_path, batch_size=3).predict.batch_size == 3


# --- what is refused ------------------------------------------------------------------------------


def test_sources_that_are_none(training, tmp_path, monkeypatch):
    monkeypatch.delenv("SCOPENET_MODEL_ZOO", raising=False)
    weights = str(training / "model_final.pth")
    (tmp_path / "a.onnx").touch()
    message = refusal(Detector.load, tmp_path / "a.onnx", weights=weights)
    assert message == "Weights and overrides are of a config; an exported model has none."
    assert "a config" in refusal(Detector.load, tmp_path, overrides=["SEED", "1"])
    (tmp_path / "b.xml").touch()
    assert "it has a.onnx, b.xml" in refusal(Detector.load, tmp_path)
    assert "does not exist" in refusal(Detector.load, tmp_path / "absent.onnx")
    assert "absent.yaml does not exist" in refusal(Detector.load, "absent.yaml")
    message = refusal(Detector.load, "output/absent")
    assert "output/absent" in message and "SCOPENET_MODEL_ZOO" in message
    message = refusal(Detector.load, weights)
    assert message == f"{weights} is a checkpoint; name its config, and it as the weights."


def test_weights_and_overrides_that_do_not_fit(training):
    refused = {
        "do not fit": ["MODEL.SCOPENET.NUM_CLASSES", "4"],
        "Unknown key MODEL.SCOPENET.NUM_CLASS": ["MODEL.SCOPENET.NUM_CLASS", "4"],
        "odd number": ["SEED"],
        "makes no model": ["MODEL.META_ARCHITECTURE", "Absent"],
    }
    for expected, overrides in refused.items():
        assert expected in refusal(Detector.load, training, overrides=overrides)
    assert "absent.pth do not exist" in refusal(Detector.load, training, weights="absent.pth")
    config = config_of(training, "MODEL.WEIGHTS", "")
    assert "names no weights" in refusal(Detector.load, config)


def test_images_that_are_none(detector, photo, tmp_path):
    broken, thin = tmp_path / "broken.png", tmp_path / "thin.png"
    broken.write_bytes(b"no image")
    cv2.imwrite(str(thin), np.zeros((1, 9000, 3), np.uint8))
    for path, reason in (
        (broken, " cannot be read (no known image format)."),
        (thin, ": An image of 9000 x 1 px is too thin."),
        (tmp_path / "absent.png", " cannot be read (No such file or directory)."),
    ):
        with pytest.raises(ImageError) as error:
            detector([photo, path])
        assert str(error.value) == f"{path}{reason}"
    for wrong in (None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8, BGR, not"):
            detector(wrong)
