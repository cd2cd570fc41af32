"""The hooks that look at the validation images: loss, pictures, best checkpoint."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from scopenet.engine import validation
from scopenet.engine.checkpoint import SafeCheckpointer
from scopenet.engine.reliability.checkpoint_file import is_sound
from scopenet.engine.validation import (
    AtEvaluation,
    BestCheckpoint,
    DetectionPictures,
    ValidationLoss,
    evaluating,
    insert_validation,
    spread,
)


class Model(nn.Module):
    """Its losses are the numbers of the batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def validation_losses(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        value = sum(x["instances"] for x in batch) / len(batch)
        return {"loss_cls": torch.tensor(value), "loss_loc": torch.tensor(2 * value)}


def at(hook, iteration: int, storage: EventStorage, *, max_iter: int = 10, start_iter: int = 0):
    hook.trainer = SimpleNamespace(
        iter=iteration, max_iter=max_iter, start_iter=start_iter, storage=storage, model=Model()
    )
    return hook


def test_when_hooks_look():
    seen = []

    class Hook(AtEvaluation):
        def look(self):
            seen.append(self.trainer.iter)

    with EventStorage() as storage:
        for i in range(10):
            at(Hook(4), i, storage).after_step()
        assert seen == [3, 7]
        at(Hook(5), 9, storage).after_step()  # left to after_train, as EvalHook does
        at(Hook(0), 3, storage).after_step()
        at(Hook(4), 6, storage).after_train()  # interrupted
        assert seen == [3, 7]
        at(Hook(0), 9, storage).after_train()
        assert seen == [3, 7, 9]


def test_loss_is_the_mean_over_labelled_images():
    batches = [[{"instances": 1.0}, {"instances": 3.0}], [{"instances": 8.0}], [{}]]
    with EventStorage() as storage:
        hook = at(ValidationLoss(0, lambda: batches), 3, storage)
        hook.trainer.model.train()
        hook.look()
        values = {k: v for k, (v, _) in storage.latest().items()}
        assert hook.trainer.model.training
    assert values == {"validation/cls": 4, "validation/loc": 8, "validation/total": 12}


def test_loss_of_several_workers(monkeypatch):
    other = ({"loss_cls": 10.0, "loss_loc": 20.0}, 2)
    monkeypatch.setattr(comm, "gather", lambda x: [x, other])
    with EventStorage() as storage:
        at(ValidationLoss(0, lambda: [[{"instances": 2.0}]]), 3, storage).look()
        assert storage.latest()["validation/cls"][0] == 4


def test_loss_names_are_not_taken_for_those_of_training():
    with EventStorage() as storage:
        at(ValidationLoss(0, lambda: [[{"instances": 2.0}]]), 3, storage).look()
        assert not any("loss" in name for name in storage.latest())


def test_nothing_labelled_and_models_without_losses():
    with EventStorage() as storage:
        at(ValidationLoss(0, lambda: [[{}]]), 3, storage).look()
        hook = at(ValidationLoss(0, lambda: [[{"instances": 2.0}]]), 3, storage)
        hook.trainer.model = nn.Linear(1, 1)
        hook.look()
        assert not storage.latest()


def test_images_that_only_the_mapper_can_read_are_not_drawn(monkeypatch):
    class Dataset(list):
        dicts = [{"file_name": "archive.zip@1.png", "height": 8, "width": 8}]

    class Detector(nn.Module):
        def forward(self, samples):
            return [{"instances": None} for _ in samples]

    loader = SimpleNamespace(dataset=Dataset([{"instances": 1.0}]))
    drawn = []
    with EventStorage() as storage:
        monkeypatch.setattr(storage, "put_image", lambda *x: drawn.append(x))
        hook = at(DetectionPictures(0, lambda: loader, "archived"), 3, storage)
        hook.trainer.model = Detector()
        hook.look()
        assert drawn == []


def test_evaluating_restores_the_mode():
    model = Model().eval()
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert not model.training and torch.is_grad_enabled()


@pytest.mark.parametrize(
    "size, expected", [(0, []), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [0, 2, 4, 6])]
)
def test_spread(size, expected):
    assert spread(size, 4) == expected


@pytest.fixture
def folder(tmp_path) -> Path:
    checkpointer = SafeCheckpointer(Model(), str(tmp_path))
    checkpointer.save("model_0000001")
    return tmp_path


def best_after(
    folder: Path, values: list[float], *, start_iter: int = 0, weight: float = 0.0
) -> dict:
    """What model_best.pth holds after evaluations gave ``values``; the weight counts up."""
    model = Model()
    checkpointer = SafeCheckpointer(model, str(folder))
    hook = BestCheckpoint(1, checkpointer, "bbox/AP")
    with EventStorage() as storage:
        at(hook, start_iter, storage, start_iter=start_iter).before_train()
        for i, value in enumerate(values):
            nn.init.constant_(model.weight, weight + i)
            storage.iter = start_iter + i
            storage.put_scalar("bbox/AP", value, smoothing_hint=False)
            at(hook, start_iter + i, storage, start_iter=start_iter).look()
    best = folder / "model_best.pth"
    return torch.load(best, weights_only=True) if best.exists() else {}


def test_the_best_is_kept(folder):
    kept = best_after(folder, [10.0, 30.0, 20.0, 30.0])
    assert kept["model"]["weight"] == 1
    assert kept["best"] == {"metric": "bbox/AP", "value": 30.0, "iteration": 1}
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"


def test_a_resumed_run_does_not_replace_a_better_one(folder):
    best_after(folder, [10.0, 30.0])
    kept = best_after(folder, [20.0], start_iter=2, weight=5.0)
    assert kept["model"]["weight"] == 1
    kept = best_after(folder, [20.0, 31.0], start_iter=2, weight=5.0)
    assert kept["model"]["weight"] == 6


def test_a_new_run_replaces_an_old_one(folder):
    best_after(folder, [30.0])
    assert best_after(folder, [20.0], weight=5.0)["model"]["weight"] == 5


def test_no_ap_is_never_the_best(folder):
    assert best_after(folder, [math.nan]) == {}
    assert best_after(folder, [math.nan, 0.1, math.nan])["model"]["weight"] == 1


def test_zero_is_never_the_best(folder, caplog):
    caplog.set_level("INFO", "scopenet")
    assert best_after(folder, [0.0, 0.0]) == {}
    assert caplog.text.count("bbox/AP is 0: no checkpoint is the best yet.") == 2
    assert best_after(folder, [0.0, 0.1, 0.0])["model"]["weight"] == 1
    assert caplog.text.count("is 0") == 3


def test_the_best_is_never_the_one_to_resume_from(tmp_path):
    best_after(tmp_path, [10.0])
    assert [x.name for x in tmp_path.iterdir()] == ["model_best.pth"]
    assert is_sound(tmp_path / "model_best.pth")
    assert not SafeCheckpointer(Model(), str(tmp_path)).has_checkpoint()
    (tmp_path / "last_checkpoint").write_text("model_best.pth")
    assert not SafeCheckpointer(Model(), str(tmp_path)).has_checkpoint()


def test_a_damaged_best_is_replaced(folder, caplog):
    best_after(folder, [30.0])
    best = folder / "model_best.pth"
    best.write_bytes(best.read_bytes()[:-100])
    assert best_after(folder, [20.0], start_iter=2, weight=5.0)["model"]["weight"] == 5
    assert f"{best} is damaged" in caplog.text


def test_best_only_with_periodic_evaluation_and_by_the_first_of_several_sets(folder):
    evaluation = validation.EvalHook(0, dict)
    writer = AtEvaluation(0)
    options = {"loader": list, "checkpointer": SafeCheckpointer(Model(), str(folder))}

    def hooks(period, names):
        return insert_validation([evaluation, writer], period=period, names=names, **options)

    assert hooks(5, ()) == [evaluation, writer]
    first, *ours, last = hooks(0, ("a",))
    assert (first, last) == (evaluation, writer)
    assert not any(isinstance(x, BestCheckpoint) for x in ours)
    assert hooks(5, ("a",))[-2].metric == "bbox/AP"
    assert hooks(5, ("a", "b"))[-2].metric == "a/bbox/AP"
