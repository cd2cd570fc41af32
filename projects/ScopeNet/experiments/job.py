"""One run of an experiment: a config under a dataset preset, with a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from omegaconf import OmegaConf

from scopenet.config_file import config_dir, load_config, override, target_of, to_yaml
from scopenet.engine.checks import check_config, check_datasets, check_weights
from scopenet.engine.trainer import Trainer
from scopenet.errors import ConfigError

from .digest import digest
from .peers import lazy_model_trainer
from .presets import apply_preset, read_any_config, read_preset


@dataclass(frozen=True)
class Job:
    """What is to be trained and evaluated.

    Args:
        config: see :func:`~experiments.presets.read_any_config`.
        preset: see :func:`~experiments.presets.read_preset`.
        seed: >= 0.
        schedule: factor on the preset's iterations.
        base_lr, warmup: learning rate and iterations of warm-up; None for the preset's.
        overrides: KEY, VALUE, ... in place of what config and preset say.
        eval_period: iterations between evaluations during the training; 0 for none.
    """

    config: str
    preset: str
    seed: int
    schedule: float = 1.0
    base_lr: float | None = None
    warmup: int | None = None
    overrides: tuple[str, ...] = ()
    eval_period: int = 0

    @property
    def name(self) -> str:
        """The path of the config below `configs/`, without suffix, and the overrides."""
        name = self.config.split("configs/")[-1].removesuffix(".yaml").removesuffix(".py")
        return " ".join((name, *self.overrides))

    @property
    def dataset(self) -> str:
        return Path(self.preset).stem


def list_configs(names: Sequence[str]) -> list[str]:
    """List configs, where a folder (here, or below the project's configs) stands for the YAML files
    in it.

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


def set_schedule(cfg: CfgNode, job: Job) -> None:
    """Train ``job.schedule`` times as long, the warm-up excepted, at the rate of the job."""
    solver = cfg.SOLVER
    solver.MAX_ITER = round(solver.MAX_ITER * job.schedule)
    solver.STEPS = tuple(round(step * job.schedule) for step in solver.STEPS)
    solver.BASE_LR = solver.BASE_LR if job.base_lr is None else job.base_lr
    solver.WARMUP_ITERS = solver.WARMUP_ITERS if job.warmup is None else job.warmup


def resolve(job: Job) -> tuple[type[Trainer], CfgNode, str]:
    """Find out what a job trains: the trainer, its config, and the digest of both.

    Of a LazyConfig only the model counts; the rest is taken from `Base-ScopeNet.yaml` and the
    preset, so that it is trained as ScopeNet is.

    Raises:
        ConfigError: see :mod:`scopenet.engine.checks`.
    """
    preset, config = read_preset(job.preset), read_any_config(job.config)
    model_text = ""
    if isinstance(config, CfgNode):
        cfg, trainer_class = config, Trainer
        apply_preset(cfg, preset)
    else:
        cfg = load_config("Base-ScopeNet.yaml")
        cfg.MODEL.WEIGHTS = config.train.init_checkpoint
        cfg.merge_from_other_cfg(preset)
        cfg.MODEL.META_ARCHITECTURE = target_of(config.model).__name__
        trainer_class = lazy_model_trainer(config.model, preset)
        model_text = to_yaml(
            OmegaConf.create({"model": config.model}, flags={"allow_objects": True})
        )
    cfg.SEED = job.seed
    set_schedule(cfg, job)
    override(cfg, job.overrides)
    if trainer_class is Trainer:
        check_config(cfg, training=True)
    check_datasets((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    weights = preset.get("MODEL", {}).get("WEIGHTS", "")
    if weights and "://" not in weights and not Path(weights).is_file():
        raise ConfigError(
            f"The weights {weights} of preset {job.preset} do not exist; make them by: "
            f"python projects/ScopeNet/pretrain_backbone.py --preset {job.preset}."
        )
    check_weights(cfg.MODEL.WEIGHTS)
    return trainer_class, cfg, digest(cfg, model_text)
