"""What is known of a training, for the model's card. What is not known is said to be so."""

from typing import Any

from detectron2.config import CfgNode
from omegaconf import DictConfig

from ..config_file import leaves
from ..engine.lazy import run_settings

RECORDED = ("hardware", "versions", "commit")  # what a config does not say
UNKNOWN = "not recorded"


def run_settings_of(config: CfgNode | DictConfig) -> CfgNode:
    """Of a YAML config itself, of a LazyConfig what the trainer reads."""
    return config if isinstance(config, CfgNode) else run_settings(config)


def config_facts(config: CfgNode | DictConfig, iterations: int) -> dict[str, str]:
    """
    Args:
        config: of the training.
        iterations: done when the checkpoint was written.

    Returns:
        label -> text
    """
    settings = run_settings_of(config)
    is_yacs = isinstance(config, CfgNode)
    rate = settings.SOLVER.BASE_LR if is_yacs else config.optimizer.get("lr", UNKNOWN)
    whole = settings.SOLVER.MAX_ITER
    return {
        "architecture": settings.MODEL.META_ARCHITECTURE.rsplit(".", 1)[-1],
        "training data": ", ".join(settings.DATASETS.TRAIN),
        "started from": settings.MODEL.WEIGHTS or "random weights",
        "iterations": f"{iterations}" if iterations == whole else f"{iterations} of {whole}",
        "images per iteration": f"{settings.SOLVER.IMS_PER_BATCH}",
        "learning rate": f"{rate}",
        "seed": f"{settings.SEED}" if settings.SEED >= 0 else UNKNOWN,
    }


def recorded_facts(checkpoint: dict[str, Any]) -> dict[str, str]:
    """What the trainer has written into a checkpoint about where it ran."""
    return {x: str(checkpoint.get(x, UNKNOWN)) for x in RECORDED}


def changes(config: dict, source: dict) -> dict[str, Any]:
    """What a config has otherwise than the file it was started from, but for the seed."""
    before = dict(leaves(source))
    return {
        name: value
        for name, value in leaves(config)
        if name not in ("SEED", "train.seed") and (name, value) not in before.items()
    }
