"""The average of the weights: how it is made, and that it is what is evaluated and saved."""

import copy
from pathlib import Path

import pytest
import torch
from miniature import mini_datasets, mini_overrides, one_thread
from torch import nn

from scopenet import ConfigError, load_config
from scopenet.config_file import load_lazy_config, settings_of
from scopenet.engine.averaging import WeightAverage, decay_after
from scopenet.engine.evaluator import CocoEvaluator
from scopenet.engine.trainer import Trainer

ON = ["SOLVER.EMA.ENABLED", "True"]


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


def new_trainer(folder: Path, *overrides: str) -> Trainer:
    # Running statistics, and a rate at which weights move.
    settings = ["MODEL.RESNETS.NORM", "BN", "SOLVER.BASE_LR", "0.005", "SOLVER.WARMUP_ITERS", "0"]
    cfg = load_config("ScopeNet_R_50_FPN_1x.yaml", mini_overrides(folder, *settings, *overrides))
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    return trainer


def load(folder: Path, name: str = "model_final") -> dict:
    return torch.load(folder / f"{name}.pth", weights_only=True)


def test_the_decay_warms_up():
    assert decay_after(0, 0.999) == 0.1 and decay_after(1, 0.999) == 2 / 11
    assert decay_after(899, 0.999) == 900 / 909 and decay_after(10**6, 0.999) == 0.999


def test_average_by_hand():
    model = nn.BatchNorm1d(1)
    nn.init.constant_(model.weight, 9.0)
    average = WeightAverage(model, decay=0.15)
    nn.init.constant_(model.weight, 1.0)
    model.running_mean.fill_(10.0)
    average.update_parameters(model)
    assert average.module.weight.item() == 1.0 and average.module.running_mean.item() == 10.0
    nn.init.constant_(model.weight, 2.0)
    model.running_mean.fill_(20.0)
    model.num_batches_tracked.fill_(7)
    average.update_parameters(model)
    torch.testing.assert_close(average.module.weight.item(), 1.0 * 0.15 + 2.0 * 0.85)
    torch.testing.assert_close(average.module.running_mean.item(), 10 * 0.15 + 20 * 0.85)
    assert average.module.num_batches_tracked == 7
    assert average.module.bias.item() == 0.0  # what stays the same stays exactly the same


@pytest.mark.parametrize("decay", [1.0, -0.1, 2.0])
def test_a_decay_without_sense(decay):
    with pytest.raises(ConfigError, match=f"SOLVER.EMA.DECAY is {decay}; give"):
        WeightAverage(nn.Linear(1, 1), decay)


def test_what_is_saved_is_the_average_of_what_was_trained(tmp_path):
    trainer = new_trainer(tmp_path, *ON, "SOLVER.EMA.DECAY", "0.2", "SOLVER.MAX_ITER", "4")
    seen, update = [], trainer.optimizer.step

    def step(*args):
        update(*args)
        seen.append(copy.deepcopy(trainer.trained.state_dict()))

    trainer.optimizer.step = step
    trainer.train()
    checkpoint = load(tmp_path)
    assert len(seen) == 4
    names = [k for k, x in checkpoint["model"].items() if x.is_floating_point()]
    moved = 0
    for name in names:
        expected = seen[0][name]
        for i, values in enumerate(seen[1:], start=1):
            expected = torch.lerp(expected, values[name], 1 - decay_after(i, 0.2))
        torch.testing.assert_close(checkpoint["model"][name], expected)
        moved += not torch.equal(expected, seen[-1][name])
    assert moved > len(names) / 2
    raw = checkpoint["trainer"]["training_weights"]
    assert all(torch.equal(raw[k], x) for k, x in seen[-1].items())
    assert checkpoint["trainer"]["averaged_iterations"] == 4
    # Counts are not averaged.
    counts = [x for k, x in checkpoint["model"].items() if k.endswith("num_batches_tracked")]
    assert counts and all(x == 4 for x in counts)


def test_evaluation_losses_and_the_best_are_of_the_average(tmp_path, monkeypatch):
    overrides = [*ON, "TEST.EVAL_PERIOD", "2", "SOLVER.MAX_ITER", "4"]
    trainer = new_trainer(tmp_path, *overrides, "MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0")
    seen = []
    average = trainer.average.module
    average.register_forward_hook(lambda module, *_: seen.append(module.training))
    validation_losses = type(average).validation_losses

    def losses(model, batch):
        assert model is average
        seen.append("losses")
        return validation_losses(model, batch)

    monkeypatch.setattr(type(average), "validation_losses", losses)
    trainer.trained.register_forward_hook(lambda module, *_: seen.append("trained"))
    evaluate = CocoEvaluator.evaluate

    def evaluate_to_more(self, *args):
        results = evaluate(self, *args)
        results["bbox"]["AP"] += 1  # an AP of 0 is never the best
        return results

    monkeypatch.setattr(CocoEvaluator, "evaluate", evaluate_to_more)
    trainer.train()
    once = [False] * 4 + ["losses"] * 2 + [False] * 4  # evaluation, losses, pictures
    assert seen == (["trained"] * 2 + once) * 2
    best, final = load(tmp_path, "model_best"), load(tmp_path)
    assert best["best"]["iteration"] in (1, 4)
    if best["best"]["iteration"] == 4:
        assert all(torch.equal(best["model"][k], x) for k, x in final["model"].items())
    results = trainer.last_results["bbox"]
    model = Trainer.build_model(trainer.cfg)
    model.load_state_dict(final["model"])
    again = Trainer.test(trainer.cfg, model)["bbox"]
    assert results["AP"] == again["AP"] and results["AR100"] == again["AR100"]


def test_the_weights_that_were_loaded_are_trained(tmp_path):
    new_trainer(tmp_path / "first").train()
    weights = ["MODEL.WEIGHTS", str(tmp_path / "first/model_final.pth"), "SOLVER.MAX_ITER", "1"]
    for name, more in (("plain", []), ("averaged", ON)):
        new_trainer(tmp_path / name, *weights, *more).train()
    plain = load(tmp_path / "plain")["model"]
    averaged = load(tmp_path / "averaged")
    for weights in (averaged["model"], averaged["trainer"]["training_weights"]):
        assert all(torch.equal(weights[k], x) for k, x in plain.items())


def test_lazy_config_has_the_keys_too():
    overrides = ["train.ema.enabled=True", "train.ema.decay=0.9"]
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", overrides)
    assert settings_of(lazy).SOLVER.EMA == {"ENABLED": True, "DECAY": 0.9}
