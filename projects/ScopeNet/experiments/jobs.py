"""One run of an experiment: a config under a dataset preset, with a seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from detectron2.config import CfgNode
from omegaconf import OmegaConf

from scopenet.config_file import config_dir, leaves, load_config
from scopenet.errors import ConfigError
from scopenet.engine.checks import check_config, check_datasets, check_weights
from scopenet.engine.lazy import architecture
from scopenet.engine.trainer import Trainer, to_yaml
from .peers import lazy_model_trainer
from .presets import apply_preset, read_config, read_preset

# Keys that do not change what is trained, and those that count otherwise: the weights by their
# contents, the seed by the name of its folder.
_NOT_TRAINED = {
    "MODEL.SCOPENET.GUIDED_SCORE",
    "MODEL.WEIGHTS",
    "SEED",
    "MODEL.DEVICE",
    "DATASETS.TEST",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.MAX_SKIPPED_ITERATIONS",
    "OUTPUT_DIR",
    "VIS_PERIOD",
}


@dataclass(frozen=True)
class Job:
    """
    Args:
        config: see :func:`~experiments.presets.read_config`.
        preset: see :func:`~experiments.presets.read_preset`.
        seed: >= 0.
        schedule: factor on the preset's iterations.
    """

    config: str
    preset: str
    seed: int
    schedule: float = 1.0

    @property
    def name(self) -> str:
        """Of the config: its path below `configs/`, without suffix."""
        return self.config.split("configs/")[-1].removesuffix(".yaml").removesuffix(".py")

    @property
    def dataset(self) -> str:
        return Path(self.preset).stem


def list_configs(names: Sequence[str]) -> list[str]:
    """Names of configs, in which folders (here, or below the project's configs) stand for the YAML
    files in them.

    Raises:
        ConfigError: a folder holds none.
    """
    configs = []
    for name in names:
        folder = Path(name) if Path(name).is_dir() else config_dir() / name.removeprefix("configs/")
        found = sorted(map(str, folder.glob("*.yaml"))) if folder.is_dir() else [name]
        if not found:
            raise ConfigError(f"The folder {name} holds no YAML configs.")
        configs += found
    return configs


def scale_schedule(cfg: CfgNode, factor: float) -> None:
    """Train ``factor`` times as long; the warm-up stays."""
    cfg.SOLVER.MAX_ITER = round(cfg.SOLVER.MAX_ITER * factor)
    cfg.SOLVER.STEPS = tuple(round(step * factor) for step in cfg.SOLVER.STEPS)


def resolve(job: Job) -> tuple[type[Trainer], CfgNode, str]:
    """The trainer, the config and the digest of what a job trains.

    Of a LazyConfig only the model counts; the rest is taken from `Base-ScopeNet.yaml` and the
    preset, so that it is trained as ScopeNet is.

    Raises:
        ConfigError: see :mod:`scopenet.engine.checks`.
    """
    preset, config = read_preset(job.preset), read_config(job.config)
    model_text = ""
    if isinstance(config, CfgNode):
        cfg, trainer_class = config, Trainer
        apply_preset(cfg, preset)
        check_config(cfg, training=True)
    else:
        cfg = load_config("Base-ScopeNet.yaml")
        cfg.MODEL.WEIGHTS = config.train.init_checkpoint
        cfg.merge_from_other_cfg(preset)
        cfg.MODEL.META_ARCHITECTURE = architecture(config.model)
        trainer_class = lazy_model_trainer(config.model, preset)
        model_text = to_yaml(
            OmegaConf.create({"model": config.model}, flags={"allow_objects": True})
        )
    cfg.SEED = job.seed
    scale_schedule(cfg, job.schedule)
    check_datasets((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    weights = preset.get("MODEL", {}).get("WEIGHTS", "")
    if weights and "://" not in weights and not Path(weights).is_file():
        raise ConfigError(
            f"The weights {weights} of preset {job.preset} do not exist; make them by: "
            f"python projects/ScopeNet/pretrain_backbone.py --preset {job.preset}."
        )
    check_weights(cfg.MODEL.WEIGHTS, needed=False)
    return trainer_class, cfg, digest(cfg, model_text)


def is_trained(key: str) -> bool:
    """Whether a config key has an influence on what is trained."""
    return not (key in _NOT_TRAINED or key.startswith("TEST.") or key.endswith("_TEST"))


@lru_cache
def weights_digest(weights: str) -> str:
    """Of the file's contents, or of an address itself."""
    path = Path(weights)
    return hashlib.sha256(path.read_bytes() if path.is_file() else weights.encode()).hexdigest()


def digest(cfg: CfgNode, model_text: str = "") -> str:
    """Of everything but the seed that decides what is trained: configs that differ at inference
    only share it, and with it one training per seed."""
    values = [(key, value) for key, value in leaves(cfg) if is_trained(key)]
    text = f"{sorted(values)}{model_text}{weights_digest(cfg.MODEL.WEIGHTS)}"
    return hashlib.sha256(text.encode()).hexdigest()[:10]
