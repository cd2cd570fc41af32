"""How long a training of one's own data is, and what the screen says before it."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from miniature import job, mini_datasets, mini_overrides, one_thread

from scopenet import ConfigError, load_config
from scopenet.engine.command import main
from scopenet.engine.schedule import fit_schedule

OWN = "OwnData-ScopeNet_R_50_FPN_GN.yaml"
pytestmark = pytest.mark.usefixtures("closed_logs")


@pytest.fixture
def images():
    """Registers a data set of so many images."""
    names = []

    def register(number: int) -> str:
        names.append(f"of_{number}_images")
        DatasetCatalog.register(names[-1], lambda: [{}] * number)
        return names[-1]

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def schedule(name: str, *overrides: str) -> list[int]:
    """Iterations, those of the warm-up, and the periods of evaluation and of checkpoints."""
    cfg = load_config(OWN, ["DATASETS.TRAIN", f"('{name}',)", *overrides])
    fit_schedule(cfg)
    solver = cfg.SOLVER
    return [
        solver.MAX_ITER,
        solver.WARMUP_ITERS,
        cfg.TEST.EVAL_PERIOD,
        solver.CHECKPOINT_PERIOD,
    ]


@pytest.mark.parametrize(
    "number, overrides, expected",
    [
        (100, "", [1250, 125, 63, 63]),  # 25 iterations an epoch
        (300, "", [3750, 375, 188, 188]),
        (1000, "", [12500, 500, 500, 500]),  # the config's own are not exceeded
        (300, "SOLVER.EPOCHS 4", [300, 30, 75, 75]),  # not more often than once an epoch
        (300, "SOLVER.IMS_PER_BATCH 8", [1875, 187, 94, 94]),
        (300, "SOLVER.MAX_ITER 60", [60, 6, 75, 75]),
        (300, "SOLVER.MAX_ITER 60 SOLVER.WARMUP_ITERS 3", [60, 3, 75, 75]),
        (300, "TEST.EVAL_PERIOD 0 SOLVER.CHECKPOINT_PERIOD 20", [3750, 375, 0, 20]),
        (1, "SOLVER.EPOCHS 1", [1, 0, 1, 1]),
        (300, "SOLVER.EPOCHS 0 SOLVER.MAX_ITER 60", [60, 500, 500, 500]),  # as it was written
    ],
)
def test_lengths(images, number, overrides, expected):
    assert schedule(images(number), *overrides.split()) == expected


def test_sets_that_are_trained_on_together(images):
    name = "', '".join([images(100), images(200)])
    assert schedule(name)[0] == 3750


@pytest.mark.parametrize("overrides", ["SOLVER.EPOCHS 0", "SOLVER.EPOCHS -1", "SOLVER.MAX_ITER -5"])
def test_no_iterations(images, overrides):
    with pytest.raises(ConfigError, match="SOLVER.MAX_ITER is .* and SOLVER.EPOCHS"):
        schedule(images(3), *overrides.split())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")):
        yield


def shown(output: Path, capsys, *more: str) -> tuple[str, str]:
    """What a training shows, and what its log has."""
    argv = mini_overrides(output, "MODEL.SCOPENET.NORM", "", "SOLVER.BASE_LR", "0.004", *more)
    with one_thread():
        main(job("ScopeNet_R_50_FPN_1x.yaml", *argv))
    return capsys.readouterr().out, (output / "log.txt").read_text()


def test_the_screen_is_short_until_the_first_iteration(data, tmp_path, capsys):
    iterations = ["SOLVER.MAX_ITER", "5", "SOLVER.WARMUP_ITERS", "1", "TEST.EVAL_PERIOD", "3"]
    screen, log = shown(tmp_path, capsys, *iterations)
    before, _, after = screen.partition("log.txt has the config and the model, too.")
    assert len(before.splitlines()) <= 6 and after
    for text in ("8 images to train on; 3 classes: red, green, blue.",
                 "5 iterations of 2 images, each of them seen 1.25 times, by 1 worker on cpu.",
                 "Learning rate up to 0.004 after a warm-up of 1; evaluation every 3 iterations "
                 "and at the end, on mini_val."):  # fmt: skip
        assert text in before and text in log
    for text in ("Running with full config", "(head): ScopeHead", "[Checkpointer] Loading"):
        assert text not in screen and (log.count(text) == 1 or "Checkpointer" in text)
    assert "s an iteration: the other 1 take about" in after and " GB of " in after
    assert after.count("total_loss") == 1 and "Evaluation results for bbox" in after
    assert "The warm-up takes" not in screen


def test_a_warm_up_longer_than_the_training_is_told(data, tmp_path, capsys):
    screen, _ = shown(tmp_path, capsys, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")
    assert "The warm-up takes 1000 of 1 iterations" in screen
    assert "no evaluation, as there is no test set" in screen
