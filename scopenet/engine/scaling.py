"""Linear scaling: a batch k times as small wants a learning rate k times as small
(https://arxiv.org/abs/1706.02677, section 2.1)."""

from omegaconf import OmegaConf

from ..config_file import load_config
from .lazy import load_lazy_config


def _batch_and_rate(config_file: str, overrides: list[str]) -> tuple[int, float | None]:
    """Images per iteration and the base learning rate, None where the optimizer has none."""
    if config_file.endswith(".py"):
        lazy = load_lazy_config(config_file, overrides)
        return lazy.dataloader.train.total_batch_size, OmegaConf.select(lazy, "optimizer.lr")
    solver = load_config(config_file, overrides).SOLVER
    return solver.IMS_PER_BATCH, solver.BASE_LR


def scaling_advice(config_file: str, overrides: list[str]) -> str:
    """What to say of overrides that change the batch and leave the learning rate; else ""."""
    batch, rate = _batch_and_rate(config_file, overrides)
    usual_batch, usual_rate = _batch_and_rate(config_file, [])
    if batch == usual_batch or rate is None or rate != usual_rate:
        return ""
    return (
        f"The learning rate {rate:g} of {config_file} is for {usual_batch} images per iteration, "
        f"not {batch}: training may {'diverge' if batch < usual_batch else 'be slow'}. Linear "
        f"scaling gives {rate * batch / usual_batch:g} and {usual_batch / batch:g} times the "
        "iterations."
    )
