"""Pretraining: crops show what their label says, and a detector takes the backbone as it is."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from miniature import CLASSES, SHORT, TRAIN, VAL, mini_datasets, one_thread

from experiments.pretraining import (
    CROP_SIZE,
    CropClassifier,
    CropSampler,
    accuracy,
    pretrain,
    save_backbone,
)
from scopenet import load_config
from scopenet.engine.checkpoint import SafeCheckpointer

# The smallest ResNet that Detectron2 has.
SMALL = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.BACKBONE.FREEZE_AT", "0"),
    *("MODEL.RESNETS.DEPTH", "18"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
    *("MODEL.RESNETS.NORM", "BN"),
    *("MODEL.SCOPENET.NUM_CLASSES", str(len(CLASSES))),
    *("DATASETS.TRAIN", f"('{TRAIN}',)"),
    *("DATASETS.TEST", f"('{VAL}',)"),
]


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


@pytest.fixture
def sampler() -> CropSampler:
    return CropSampler(DatasetCatalog.get(TRAIN), len(CLASSES), "RGB", seed=0)


def test_crops_show_their_label(sampler):
    # The boxes of class k are the only bright pixels, brightest in channel k; noise is below 60.
    crops, labels = sampler.batch(200)
    assert crops.shape == (200, 3, CROP_SIZE, CROP_SIZE) and crops.dtype == torch.float32
    assert set(labels.tolist()) == {0, 1, 2, len(CLASSES)}
    centers = crops[:, :, 28:36, 28:36].mean((2, 3))
    is_background = labels == len(CLASSES)
    assert 5 <= is_background.sum() <= 40  # 20 expected
    # Interpolated at its rim, a crop may touch a neighbouring box.
    assert crops[is_background].mean((1, 2, 3)).max() < 40
    brightest, channel = centers[~is_background].max(1)
    # Another box may hide the centre of a crop, so a few may differ.
    assert (channel == labels[~is_background]).float().mean() > 0.9 and (brightest > 100).all()


def test_crop_repeats_the_rim_outside_the_image(sampler):
    sampler.images[0] = np.full((SHORT, SHORT, 3), 50, np.uint8)
    sampler.images[0][:, 0] = 200
    crop = sampler._crop(0, np.array([0.0, SHORT / 2]), 32.0)
    assert (crop[:, :28] == 200).all() and (crop[:, 36:] == 50).all()


def test_image_without_background(sampler):
    for boxes in sampler.boxes:
        boxes[:] = [[0, 0, 2 * SHORT, 2 * SHORT]]
    _, labels = sampler.batch(50)
    assert (labels < len(CLASSES)).all()


def test_same_seed_same_crops(sampler):
    twin = CropSampler(DatasetCatalog.get(TRAIN), len(CLASSES), "RGB", seed=0)
    for a, b in zip(sampler.batch(4), twin.batch(4), strict=True):
        assert torch.equal(a, b)


def test_accuracy(sampler):
    class Constant(torch.nn.Module):
        def forward(self, crops):
            return torch.tensor([[0.0, 1.0]]).expand(len(crops), 2)

    assert accuracy(Constant(), torch.zeros(4, 3, 8, 8), torch.tensor([1, 1, 0, 1])) == 0.75


def test_backbone_fits_a_detector(tmp_path):
    cfg = load_config("Base-ScopeNet.yaml", SMALL)
    torch.manual_seed(0)
    classifier = CropClassifier(cfg, len(CLASSES) + 1)
    path = tmp_path / "new" / "weights.pth"
    save_backbone(classifier.resnet, path)
    detector = build_model(cfg)
    missing = SafeCheckpointer(detector).load(str(path))
    assert missing is not None and [p.name for p in path.parent.iterdir()] == ["weights.pth"]
    expected = classifier.resnet.state_dict()
    actual = detector.backbone.bottom_up.state_dict()
    assert actual.keys() == expected.keys() and len(actual) > 100
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_pretraining_learns(tmp_path):
    cfg = load_config("Base-ScopeNet.yaml", [*SMALL, "MODEL.WEIGHTS", str(tmp_path / "w.pth")])
    # Colours are easy: chance is a third of the boxes.
    assert pretrain(cfg, iterations=30, seed=0) > 0.6
    assert (tmp_path / "w.pth").is_file()
