"""Losses and gradients that are infinite or NaN."""

import json
import math

import pytest
import torch
from detectron2.engine import SimpleTrainer
from tally import counted
from torch import nn
from trainings import ITERATIONS, train_here

from scopenet import ConfigError, ScopeNet
from scopenet.config_file import load_lazy_config, settings_of
from scopenet.engine.reliability import non_finite
from scopenet.engine.reliability.non_finite import NonFiniteGuard, StepSkipped

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("mini", "quiet_after")]
NAN = float("nan")


@pytest.fixture
def poison(monkeypatch):
    """Makes the loss or its gradient NaN in some iterations."""

    def poison_iterations(bad, kind: str) -> None:
        iterations, forward = {"next": 0}, ScopeNet.forward

        def poisoned(model, batch, *joint):
            losses = forward(model, batch, *joint)
            iterations["next"] += 1
            if iterations["next"] - 1 in bad and kind == "loss":
                losses["loss_cls"] = losses["loss_cls"] * NAN
            elif iterations["next"] - 1 in bad:
                losses["loss_cls"].register_hook(lambda gradient: gradient * NAN)
            return losses

        monkeypatch.setattr(ScopeNet, "forward", poisoned)

    return poison_iterations


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_skipped_and_noted_down(tmp_path, poison, kind):
    poison({5, 6}, kind)
    folder = tmp_path / "output"
    with counted(f"{kind} NaN in two iterations: both are skipped", 2):
        average = ["SOLVER.EMA.ENABLED", "True"]
        training = train_here(folder, "SOLVER.MAX_SKIPPED_ITERATIONS", "2", *average)
        assert training.iterations() == [i for i in range(ITERATIONS) if i not in (5, 6)]
        names = [f"iteration_000000{i}_worker_0.json" for i in (5, 6)]
        assert sorted(x.name for x in (folder / "non_finite").iterdir()) == names
        note = json.loads((folder / "non_finite" / names[0]).read_text())
        assert note["iteration"] == 5 and note["learning_rate"] > 0
        assert note["not_finite"]["losses"] == (["loss_cls"] if kind == "loss" else [])
        assert "head.cls_score.weight" in note["not_finite"]["gradients"]
        assert math.isnan(float(note["losses"]["loss_cls"])) == (kind == "loss")
        assert len(note["images"]) == 2
        assert all(x["file_name"].endswith(".png") and x["image_id"] for x in note["images"])
        checkpoint = torch.load(folder / "model_final.pth", weights_only=True)
        weights = checkpoint["model"]
        assert all(bool(x.isfinite().all()) for x in weights.values())
        # The running statistics have not seen the two batches either.
        counts = [x for name, x in weights.items() if name.endswith("num_batches_tracked")]
        assert counts and all(x == ITERATIONS - 2 for x in counts)
        assert checkpoint["trainer"]["averaged_iterations"] == ITERATIONS - 2
        state = checkpoint["trainer"]["_trainer"]["hooks"]["NonFiniteGuard"]
        assert state == {"in_a_row": 0, "skipped": 2}


def test_skipped_as_a_whole_where_it_comes_in_parts(tmp_path, poison):
    poison({10}, "loss")  # the first half of iteration 5
    folder = tmp_path / "output"
    with counted("loss NaN in a part of an iteration: all of it is skipped"):
        training = train_here(folder, "SOLVER.ACCUMULATION", "2")
        assert training.iterations() == [i for i in range(ITERATIONS) if i != 5]
        (note,) = (folder / "non_finite").iterdir()
        note = json.loads(note.read_text())
        assert len(note["images"]) == 2 and note["not_finite"]["losses"] == ["loss_cls"]
        weights = torch.load(folder / "model_final.pth", weights_only=True)["model"]
        assert all(bool(x.isfinite().all()) for x in weights.values())
        counts = [x for name, x in weights.items() if name.endswith("num_batches_tracked")]
        assert counts and all(x == 2 * (ITERATIONS - 1) for x in counts)


def test_stops_after_too_many_in_a_row(tmp_path, poison):
    poison(range(6, 99), "loss")
    folder = tmp_path / "output"
    with counted("loss NaN from some iteration on: stops with a sentence") as row:
        with pytest.raises(SystemExit) as caught:
            train_here(folder, "SOLVER.MAX_SKIPPED_ITERATIONS", "3")
        assert str(caught.value).startswith("error: 4 iterations in a row had a loss or gradient")
        assert "learning rate of 0.001 that is too high for 2 images" in str(caught.value)
        assert "the data" in str(caught.value) and str(folder / "non_finite") in str(caught.value)
        assert len([*(folder / "non_finite").iterdir()]) == 4
        assert (folder / "last_checkpoint").read_text() == "model_0000007.pth"
        row.again.append(2)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return {"loss": self.weight.sum() * batch[0]["factor"]}


class Scaler:
    def __init__(self, scale: float):
        self.scale = scale

    def get_scale(self) -> float:
        return self.scale


def guarded(folder, *, most: int, scale: float | None = None):
    """A model, and one iteration with it."""
    model, guard = Model(), NonFiniteGuard(str(folder), most, 2)
    trainer = SimpleTrainer(model, [], torch.optim.SGD(model.parameters(), lr=0.5))
    guard.watch(model)
    trainer.register_hooks([guard])
    trainer.iter = 0
    if scale is not None:
        trainer.grad_scaler = Scaler(scale)

    def iterate(factor: float, gradient: float | None = None):
        loss = model([{"factor": factor}])["loss"]
        model.weight.grad = torch.tensor([factor if gradient is None else gradient])
        trainer.after_backward()
        return loss

    return model, guard, iterate


def test_the_count_starts_anew_after_a_good_iteration(tmp_path):
    _, guard, iterate = guarded(tmp_path, most=1)
    for factor in (NAN, 1.0, math.inf, 1.0, NAN):
        if math.isfinite(factor):
            iterate(factor)
            assert guard.in_a_row == 0
        else:
            with pytest.raises(StepSkipped):
                iterate(factor)
    assert guard.skipped == 3
    with pytest.raises(ConfigError, match="2 iterations in a row"):
        iterate(NAN)


def test_weights_that_are_not_finite_themselves(tmp_path):
    model, _, iterate = guarded(tmp_path, most=0)
    nn.init.constant_(model.weight, math.inf)
    with pytest.raises(ConfigError, match="the weights themselves are not finite: go on from"):
        iterate(1.0)


def test_a_gradient_whose_norm_overflows_is_finite(tmp_path):
    model, guard, _ = guarded(tmp_path, most=0)
    model.weight = nn.Parameter(torch.ones(16))
    model([{"factor": 1.0}])
    model.weight.grad = torch.full((16,), 3e38)
    assert model.weight.grad.norm() == math.inf
    guard.trainer.after_backward()
    assert guard.skipped == 0


def test_gradients_under_loss_scaling_are_the_scalers_until_nothing_is_scaled(tmp_path):
    _, guard, iterate = guarded(tmp_path, most=9, scale=2.0)
    iterate(1.0, gradient=math.inf)
    assert guard.skipped == 0
    with pytest.raises(StepSkipped):  # a loss that is not finite has nothing to do with the scale
        iterate(NAN)
    _, guard, iterate = guarded(tmp_path, most=9, scale=1.0)
    with pytest.raises(StepSkipped):
        iterate(1.0, gradient=math.inf)


def test_a_bad_iteration_of_another_worker_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(non_finite, "any_worker", lambda flag: True)
    _, guard, iterate = guarded(tmp_path, most=9)
    with pytest.raises(StepSkipped):
        iterate(1.0)
    (note,) = (tmp_path / "non_finite").iterdir()
    assert json.loads(note.read_text())["not_finite"] == {"losses": [], "gradients": []}


def test_lazy_config_has_the_key_too():
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", ["train.max_skipped_iterations=3"])
    assert settings_of(lazy).SOLVER.MAX_SKIPPED_ITERATIONS == 3
