"""Training ends when validation AP no longer rises, and stays ended over a resume."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from miniature import job, mini_datasets, mini_overrides, one_thread
from torch import nn

from scopenet import ConfigError, load_config
from scopenet.config_file import load_lazy_config, settings_of
from scopenet.engine import validation
from scopenet.engine.checkpoint import SafeCheckpointer
from scopenet.engine.checks import check_early_stopping
from scopenet.engine.command import main
from scopenet.engine.trainer import Trainer
from scopenet.engine.validation import BestCheckpoint, EarlyStopping

PERIOD = 2
pytestmark = pytest.mark.usefixtures("closed_logs")


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


def run(folder: Path, aps: list[float], *arguments: str, patience: int = 2) -> list[float]:
    """A training whose evaluations give ``aps`` in turn; what is left of them."""
    left = list(aps)
    flags = [x for x in arguments if x.startswith("--")]
    settings = ["TEST.EVAL_PERIOD", str(PERIOD), "SOLVER.MAX_ITER", "12"]
    settings += ["TEST.EARLY_STOPPING", str(patience), "SOLVER.CHECKPOINT_PERIOD", "100"]
    settings += [x for x in arguments if not x.startswith("--")]
    with pytest.MonkeyPatch.context() as patch:
        found, augmented = lambda *_: {"bbox": {"AP": left.pop(0)}}, {"bbox_TTA": {"AP": 77.0}}
        patch.setattr(Trainer, "test", staticmethod(found))
        patch.setattr(Trainer, "test_with_TTA", staticmethod(lambda *_: augmented))
        overrides = mini_overrides(folder, *settings)
        results = main(job("ScopeNet_R_50_FPN_1x.yaml", *flags, *overrides))
    assert results["bbox"]["AP"] == aps[len(aps) - len(left) - 1]
    return left


def load(folder: Path, name: str) -> dict:
    return torch.load(folder / f"{name}.pth", weights_only=True)


def test_ends_after_the_patience_and_stays_so(tmp_path, caplog):
    # Evaluated after iterations 1, 3, 5, 7, and 7 once more as the last one.
    assert run(tmp_path, [10.0, 30.0, 20.0, 30.0, 30.0, 99.0]) == [99.0]
    assert "Stopped after iteration 7: for 4 iterations or more bbox/AP was not" in caplog.text
    final, best = load(tmp_path, "model_final"), load(tmp_path, "model_best")
    assert final["iteration"] == 7 and best["iteration"] == 3
    assert best["best"] == {"metric": "bbox/AP", "value": 30.0, "iteration": 3}
    assert final["trainer"]["iteration"] == 7
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    # Nothing is trained, the end is evaluated again.
    assert run(tmp_path, [30.0, 99.0], "--resume") == [99.0]
    assert load(tmp_path, "model_final")["iteration"] == 7
    # One evaluation more: after iteration 9, and 9 once more.
    assert run(tmp_path, [25.0, 25.0, 99.0], "--resume", patience=3) == [99.0]
    assert load(tmp_path, "model_final")["iteration"] == 9
    # What is better counts from anew; the last one is the usual one.
    assert run(tmp_path, [31.0, 99.0], "--resume", patience=4) == [99.0]
    assert load(tmp_path, "model_final")["iteration"] == 11
    assert load(tmp_path, "model_best")["best"]["value"] == 31.0


def test_the_end_is_like_any_other(tmp_path):
    sizes = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64,)"]
    run(tmp_path, [30.0, 20.0, 20.0], *sizes, patience=1)
    lines = (tmp_path / "metrics.json").read_text()
    assert '"bbox_TTA/AP": 77.0' in lines and '"iteration": 3' in lines


def test_never_without_patience_or_without_a_best(tmp_path):
    assert run(tmp_path / "zero", [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 99.0], patience=0) == [99.0]
    nan = math.nan
    left = [nan] * 6
    with pytest.raises(AssertionError):  # NaN is not equal to itself
        run(tmp_path / "nan", left)
    assert load(tmp_path / "nan", "model_final")["iteration"] == 11


@pytest.mark.parametrize("is_main", [True, False])
def test_workers_end_together(tmp_path, monkeypatch, is_main):
    """The main process knows the AP; the others hear of it."""
    asked = []

    def any_worker(flag: bool) -> bool:
        asked.append(flag)
        return True

    monkeypatch.setattr(validation, "any_worker", any_worker)
    monkeypatch.setattr(comm, "is_main_process", lambda: is_main)
    best = BestCheckpoint(PERIOD, SafeCheckpointer(nn.Linear(1, 1), str(tmp_path)), "bbox/AP")
    best.best, best.iteration = 30.0, 1
    hook = EarlyStopping(PERIOD, best, 2)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(iter=5, max_iter=12, start_iter=0, storage=storage)
        hook.look()
    assert asked == [is_main] and hook.trainer.max_iter == 6


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["TEST.EARLY_STOPPING", "-1"], "TEST.EARLY_STOPPING is -1; give"),
        (["TEST.EARLY_STOPPING", "3"], "is 3, but nothing is evaluated"),
        (["TEST.EARLY_STOPPING", "3", "TEST.EVAL_PERIOD", "2", "DATASETS.TEST", "()"], "nothing"),
    ],
)
def test_without_sense(tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        check_early_stopping(load_config("", mini_overrides(tmp_path, *overrides)))


def test_lazy_config_has_the_key_too():
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", ["train.early_stopping=4"])
    assert settings_of(lazy).TEST.EARLY_STOPPING == 4
