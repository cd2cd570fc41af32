"""Weights of Detectron2's RetinaNet as a start: what is taken over, and what the log says of it."""

import logging
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.model_zoo.model_zoo import get_checkpoint_url
from detectron2.modeling import build_model
from miniature import CLASSES, mini_datasets, mini_overrides, one_thread
from torch import Tensor

from scopenet import load_config
from scopenet.engine.taken_over import drop_other_tower, part_of
from scopenet.engine.trainer import Trainer

CONFIG = "OwnData-ScopeNet_R_50_FPN_from_RetinaNet.yaml"
# As the towers of RetinaNet are.
TOWERS = ["MODEL.SCOPENET.NUM_CONVS", "4"]


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


@pytest.fixture(scope="module")
def retinanet(tmp_path_factory) -> tuple[Path, dict[str, Tensor]]:
    """A file in the format of Detectron2's model zoo, and what is in it."""
    folder = tmp_path_factory.mktemp("retinanet")
    overrides = ["MODEL.RETINANET.NUM_CLASSES", "80", "MODEL.RETINANET.NUM_CONVS", "4"]
    cfg = load_config("peers/RetinaNet_R_50_FPN_1x.yaml", mini_overrides(folder, *overrides))
    torch.manual_seed(1)
    weights = build_model(cfg).state_dict()
    content = {k: x.numpy() for k, x in weights.items()}
    path = folder / "model_final_bfca0b.pkl"
    path.write_bytes(pickle.dumps({"model": content, "__author__": "Detectron2 Model Zoo"}))
    return path, weights


def started_from(path: Path, folder: Path, *overrides: str) -> dict[str, Tensor]:
    more = ["MODEL.WEIGHTS", str(path), *TOWERS, *overrides]
    trainer = Trainer(load_config(CONFIG, mini_overrides(folder, *more)))
    trainer.resume_or_load(resume=False)
    return trainer.trained.state_dict()


def test_the_config_names_the_zoos_file():
    cfg = load_config(CONFIG)
    url = get_checkpoint_url("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    assert url.endswith(cfg.MODEL.WEIGHTS.removeprefix("detectron2://"))
    # What the zoo's RetinaNet was trained with, as Detectron2 has it.
    peer = load_config("peers/RetinaNet_R_50_FPN_1x.yaml")
    for key in ("PIXEL_MEAN", "PIXEL_STD", "BACKBONE", "FPN", "RESNETS"):
        assert cfg.MODEL[key] == peer.MODEL[key], key
    assert cfg.INPUT.FORMAT == peer.INPUT.FORMAT and cfg.MODEL.SCOPENET.NORM == ""


def test_backbone_pyramid_and_class_tower_are_taken_over(retinanet, tmp_path, caplog):
    path, weights = retinanet
    with caplog.at_level(logging.INFO):
        started = started_from(path, tmp_path)
    shared = [x for x in started if x.startswith(("backbone.", "head.cls_subnet."))]
    assert len([x for x in shared if x.startswith("head.")]) == 8
    assert {part_of(x) for x in shared} == {"backbone", "pyramid", "class tower"}
    for name in shared:
        assert torch.equal(started[name], weights[name]), name
    assert started["head.cls_score.weight"].shape[0] == len(CLASSES)
    line = (
        "Taken over from the weights: backbone, pyramid, class tower; new: class "
        "scores, localization tower, bin scores, border deltas, anchors, errors of borders."
    )
    assert line in caplog.messages
    assert not any("everything else" in x for x in caplog.messages)


def test_with_normalization_the_tower_starts_anew(retinanet, tmp_path, caplog):
    path, weights = retinanet
    with caplog.at_level(logging.INFO):
        norm = ["MODEL.SCOPENET.NORM", "GN"]
        started = started_from(path, tmp_path, *norm)
    assert "MODEL.SCOPENET.NORM: it starts anew" in caplog.text
    assert "Taken over from the weights: backbone, pyramid; new: class tower," in caplog.text
    # Of the same shape, but another layer's.
    name = "head.cls_subnet.6.weight"
    assert started[name].shape == weights[name].shape
    assert not torch.equal(started[name], weights[name])


def test_nothing_is_said_of_what_is_whole_and_parts_are_counted(tmp_path, caplog):
    whole = started_from("", tmp_path / "a")
    path = tmp_path / "weights.pth"
    torch.save({"model": whole}, path)
    with caplog.at_level(logging.INFO):
        started_from(path, tmp_path / "b")
        assert "Taken over" not in caplog.text
        del whole["head.cls_subnet.2.bias"]
        torch.save({"model": whole}, path)
        started_from(path, tmp_path / "c")
    assert "pyramid, class tower (7 of 8 tensors), class scores" in caplog.text
    assert "anchors, errors of borders; new: nothing else." in caplog.text


def test_weights_of_nothing(tmp_path, caplog):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"fc.weight": torch.zeros(1)}}, path)
    with caplog.at_level(logging.INFO):
        started_from(path, tmp_path)
    assert "Taken over from the weights: nothing; new: backbone, pyramid" in caplog.text


@pytest.mark.parametrize("ours, theirs, is_kept", [(1, 4, True), (4, 2, True), (4, 4, True)])
def test_fewer_layers_of_the_same_kind_are_kept(ours, theirs, is_kept):
    names = [f"head.cls_subnet.{2 * i}.weight" for i in range(ours)]
    weights = {f"head.cls_subnet.{2 * i}.weight": None for i in range(theirs)}
    drop_other_tower(weights, names)
    assert len(weights) == (theirs if is_kept else 0)


def test_parts_of_others_have_their_names():
    assert part_of("head.bbox_subnet.0.weight") == "head.bbox_subnet"
    assert part_of("backbone.fpn_lateral3.weight") == "pyramid"
