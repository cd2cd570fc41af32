"""Parameters that are not trained, by name."""

from pathlib import Path

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from miniature import mini_datasets, mini_overrides, one_thread
from torch import nn

from scopenet import ConfigError, load_config
from scopenet.config_file import load_lazy_config, settings_of
from scopenet.engine.freezing import freeze
from scopenet.engine.trainer import Trainer

TOWER = "head.cls_subnet.*"
BOTTOM_UP = "backbone.bottom_up.*"


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


def config(folder: Path, *overrides: str):
    # Running statistics, which would move.
    more = ["MODEL.RESNETS.NORM", "BN", "DATASETS.TEST", "()", "SOLVER.BASE_LR", "0.01", *overrides]
    return load_config("ScopeNet_R_50_FPN_1x.yaml", mini_overrides(folder, *more))


def test_what_is_frozen_stays_and_the_rest_is_trained(tmp_path):
    torch.manual_seed(0)
    trainer = Trainer(config(tmp_path, "MODEL.FREEZE", f"('{BOTTOM_UP}','{TOWER}')"))
    before = {k: x.clone() for k, x in trainer.trained.state_dict().items()}
    trainable = [x for x in trainer.trained.parameters() if x.requires_grad]
    in_optimizer = [x for group in trainer.optimizer.param_groups for x in group["params"]]
    assert {*map(id, trainable)} == {*map(id, in_optimizer)}
    trainer.resume_or_load(resume=False)
    trainer.train()
    after = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    for name, value in after.items():
        is_frozen = name.startswith(("backbone.bottom_up.", "head.cls_subnet."))
        is_constant = name.startswith("pixel_")
        assert torch.equal(value, before[name]) == (is_frozen or is_constant), name
    assert any("running_mean" in name for name in after)
    # As a model loads it in which nothing is frozen.
    plain = build_model(config(tmp_path)).state_dict()
    assert plain.keys() == after.keys()


def test_a_single_norm():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
    freeze(model, ["1.weight"])
    assert isinstance(model[1], nn.BatchNorm2d)  # its bias is still trained, and it with it
    freeze(model, ["[12].*"])
    assert isinstance(model[1], FrozenBatchNorm2d) and isinstance(model[2], nn.GroupNorm)
    trained = [name for name, x in model.named_parameters() if x.requires_grad]
    assert trained == ["0.weight", "0.bias"]


def test_nothing_by_default():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    freeze(model, load_config().MODEL.FREEZE)
    assert all(x.requires_grad for x in model.parameters())


@pytest.mark.parametrize(
    "pattern, near",
    [
        ("backbone.botom_up.*", "near are backbone.bottom_up.*"),
        ("head.cls_scor.bias", "near are head.cls_score.bias"),
        ("xyz", "the first is log2_anchor_offset"),
        ("backbone", "near are backbone.*"),
    ],
)
def test_a_pattern_that_matches_nothing(tmp_path, pattern, near):
    model = build_model(config(tmp_path))
    with pytest.raises(ConfigError) as caught:
        freeze(model, [BOTTOM_UP, pattern])
    assert f"no parameter is called {pattern}; {near}" in str(caught.value)
    assert all(x.requires_grad for x in model.parameters())


def test_nothing_left_to_train():
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        freeze(nn.Linear(1, 1), ["*"])


def test_lazy_config_has_the_key_too():
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", [f"train.freeze=['{TOWER}']"])
    assert settings_of(lazy).MODEL.FREEZE == [TOWER]
