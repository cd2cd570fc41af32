"""Batch, learning rate and number of workers: advice, and Detectron2's REFERENCE_WORLD_SIZE."""

import pytest

from scopenet import ConfigError, load_config
from scopenet.engine import trainer
from scopenet.engine.checks import check_reference_world_size, scaling_advice
from scopenet.engine.trainer import Trainer

YAML, LAZY = "configs/ScopeNet_R_50_FPN_1x.yaml", "configs/ScopeNet_R_50_FPN_1x.py"


@pytest.mark.parametrize(
    "config, overrides",
    [
        (YAML, ["SOLVER.IMS_PER_BATCH", "2"]),
        (LAZY, ["dataloader.train.total_batch_size=2"]),
    ],
)
def test_a_smaller_batch_at_the_same_rate_is_remarked_on(config, overrides):
    assert scaling_advice(config, overrides) == (
        f"The learning rate 0.01 of {config} is for 16 images per iteration, not 2: training may "
        "diverge. Linear scaling gives 0.00125 and 8 times the iterations."
    )


def test_a_larger_batch_at_the_same_rate_is_remarked_on():
    advice = scaling_advice(YAML, ["SOLVER.IMS_PER_BATCH", "32"])
    assert "may be slow. Linear scaling gives 0.02 and 0.5 times the iterations." in advice


@pytest.mark.parametrize(
    "config, overrides",
    [
        (YAML, []),
        (YAML, ["SOLVER.BASE_LR", "0.1"]),
        (YAML, ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.BASE_LR", "0.00125"]),
        (YAML, ["SOLVER.REFERENCE_WORLD_SIZE", "8"]),
        (LAZY, ["dataloader.train.total_batch_size=2", "optimizer.lr=0.00125"]),
    ],
)
def test_other_overrides_are_not(config, overrides):
    assert scaling_advice(config, overrides) == ""


def test_one_worker_with_the_schedule_of_eight():
    cfg = load_config(YAML, ["SOLVER.REFERENCE_WORLD_SIZE", "8"])
    solver = Trainer.auto_scale_workers(cfg, 1).SOLVER
    assert (solver.IMS_PER_BATCH, solver.MAX_ITER) == (2, 720000)
    assert solver.STEPS == (480000, 640000)
    assert solver.BASE_LR == pytest.approx(0.00125)
    assert solver.WARMUP_ITERS == 8000


def test_a_batch_that_the_reference_cannot_share():
    cfg = load_config(YAML, ["SOLVER.REFERENCE_WORLD_SIZE", "8", "SOLVER.IMS_PER_BATCH", "12"])
    message = (
        "SOLVER.REFERENCE_WORLD_SIZE 8 does not divide SOLVER.IMS_PER_BATCH 12; give the batch "
        "that so many workers share, it is scaled to those that run."
    )
    with pytest.raises(ConfigError, match=message):
        check_reference_world_size(cfg)


@pytest.mark.parametrize("workers, group_size", [(0, 2), (1, 16), (4, 4), (8, 2)])
def test_images_of_one_orientation_come_as_a_worker_of_the_reference_has_them(
    monkeypatch, workers, group_size
):
    monkeypatch.setattr(trainer, "build_train_loader", lambda **options: options)
    monkeypatch.setattr(Trainer, "train_data", lambda cfg: {})
    cfg = load_config(YAML, ["SOLVER.REFERENCE_WORLD_SIZE", str(workers)])
    for running in (1, 2, 8):
        scaled = Trainer.auto_scale_workers(cfg, running)
        assert Trainer.build_train_loader(scaled)["group_size"] == group_size
