"""Linear scaling: a batch k times as small wants a learning rate k times as small
(https://arxiv.org/abs/1706.02677, section 2.1)."""

from omegaconf import DictConfig, OmegaConf

from ..config_file import read_config, settings_of


def _batch_and_rate(config_file: str, overrides: list[str]) -> tuple[int, float | None]:
    """Return images per iteration and the base learning rate, None where there is none."""
    config = read_config(config_file, overrides)
    batch = settings_of(config).SOLVER.IMS_PER_BATCH
    if isinstance(config, DictConfig):
        return batch, OmegaConf.select(config, "optimizer.lr")
    return batch, config.SOLVER.BASE_LR


def scaling_advice(config_file: str, overrides: list[str]) -> str:
    """Say what follows from overrides that change the batch but not the learning rate, or ""."""
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
