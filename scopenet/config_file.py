"""How config files are found and read: YAML, and LazyConfig (Python programs: trusted input).

Whatever its kind, a config is the same from here on: what the trainer reads of it are the YAML keys
of :func:`settings_of`.
"""

import difflib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
import yaml
from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf

from .config import add_scopenet_config
from .errors import ConfigError
from .safe_yaml import check_config_file

Config: TypeAlias = CfgNode | DictConfig
# Where an architecture has its number of classes, below MODEL.
NUM_CLASSES_NODES = {"ScopeNet": "SCOPENET", "RetinaNet": "RETINANET"}


def config_dir() -> Path:
    """Find the folder of the project's configs: in the installed package, or else in the clone."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(path: str) -> str:
    """Return ``path`` itself, or where it is below the project's configs; raise a ConfigError if it
    is in neither place."""
    name = path.removeprefix("configs/")
    for candidate in (Path(path), config_dir() / name):
        if candidate.is_file():
            return str(candidate)
    raise ConfigError(f"Config file {path} does not exist, neither here nor in {config_dir()}.")


def read_config(config_file: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file of either kind, see :func:`load_config` and :func:`load_lazy_config`."""
    is_lazy = config_file.endswith(".py")
    return (load_lazy_config if is_lazy else load_config)(config_file, overrides)


def load_config(config_file: str = "", overrides: Sequence[str] = ()) -> CfgNode:
    """Make a full config of a YAML file and a list of overrides "KEY", "VALUE", ...

    The YAML is read safely: tags that would run code are refused. Without a CUDA device
    ``MODEL.DEVICE`` becomes "cpu" unless the file or an override names a device.

    Raises:
        ConfigError: the file is missing, is not plain YAML, or a key is unknown or has a value of
            the wrong type.
    """
    cfg = _default_config()
    try:
        if config_file:
            path = find_config(config_file)
            check_config_file(path)
            cfg.merge_from_file(path, allow_unsafe=False)
    except Exception as error:  # yacs and PyYAML raise nearly anything for a malformed file
        raise _explain(error, cfg, config_file) from error
    override(cfg, overrides, config_file)
    return cfg


def _default_config() -> CfgNode:
    cfg = get_cfg()
    add_scopenet_config(cfg)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def load_lazy_config(config_file: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Run a LazyConfig file and apply overrides "path.key=value", see :func:`override`."""
    lazy = LazyConfig.load(find_config(config_file))
    override(lazy, overrides, config_file)
    return lazy


def override(config: Config, overrides: Sequence[str], config_file: str = "") -> None:
    """Change values of ``config``: KEY VALUE ..., of a LazyConfig path.key=value ...; raise a
    ConfigError if a key is unknown or a value of the wrong type. ``config_file`` is for messages.
    """
    overrides = list(overrides)
    if isinstance(config, DictConfig):
        for text in overrides:
            key, is_assignment, _ = text.partition("=")
            if not is_assignment or OmegaConf.select(config, key, default=_MISSING) is _MISSING:
                raise ConfigError(
                    f"Override {text} is not path.key=value of {config_file or 'the config'}"
                    + _hint(key, _names(OmegaConf.to_container(config)))
                )
    elif len(overrides) % 2:
        raise ConfigError(f"Overrides are pairs KEY VALUE, got an odd number: {overrides}.")
    try:
        if isinstance(config, DictConfig):
            LazyConfig.apply_overrides(config, overrides)
        else:
            config.merge_from_list(overrides)
    except Exception as error:  # hydra and yacs raise nearly anything
        raise _explain(error, config, config_file) from error


_MISSING = object()


def _names(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of everything in ``node``, as overrides name it."""
    for name, child in node.items():
        yield f"{prefix}{name}"
        if isinstance(child, dict):
            yield from _names(child, f"{prefix}{name}.")


def _hint(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.7)
    return f", did you mean {close[0]}?" if close else "."


def _explain(error: Exception, cfg: Config, config_file: str) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, yaml.YAMLError):
        problem = " ".join(str(error).split())
        return ConfigError(f"{config_file} is not plain YAML: {problem}.")
    message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    where = f"{config_file} or the overrides" if config_file else "the overrides"
    if "Non-existent" in message:
        key = message.split(":")[-1].strip()
        return ConfigError(f"Unknown key {key} in {where}{_hint(key, all_keys(cfg))}")
    return ConfigError(f"In {where}: {' '.join(message.split()).rstrip('.!')}.")


def leaves(cfg: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of every leaf of a ``CfgNode`` or any other dict of dicts."""
    for name, value in cfg.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def all_keys(cfg: CfgNode) -> list[str]:
    """List the dotted names of all leaves of ``cfg``."""
    return [key for key, _ in leaves(cfg)]


def to_yaml(config: Config) -> str:
    """Write a config as Detectron2 writes it to a file."""
    if isinstance(config, CfgNode):
        return config.dump()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        LazyConfig.save(config, str(path))
        return path.read_text()


def target_of(node: DictConfig) -> Callable:
    """Find the class or function that a part of a LazyConfig calls."""
    target = node._target_
    return locate(target) if isinstance(target, str) else target


def settings_of(config: Config) -> CfgNode:
    """Say what the trainer itself reads of a config, as the YAML keys it knows them by.

    A YAML config is returned as it is. Of a LazyConfig, keys that only its own parts read (model,
    optimizer, data) keep their defaults and are not used.
    """
    if isinstance(config, CfgNode):
        return config
    cfg, train, loaders = _default_config(), config.train, config.dataloader
    cfg.OUTPUT_DIR = train.output_dir
    cfg.SEED = train.get("seed", -1)
    cfg.MODEL.META_ARCHITECTURE = target_of(config.model).__name__
    cfg.MODEL.DEVICE = train.device if torch.cuda.is_available() else "cpu"
    cfg.MODEL.WEIGHTS = train.init_checkpoint
    cfg.MODEL.FREEZE = list(train.get("freeze", []))
    cfg.DATASETS.TRAIN = _dataset_names(loaders.train.dataset)
    cfg.DATASETS.TEST = _dataset_names(loaders.test.dataset)
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = loaders.train.get("aspect_ratio_grouping", True)
    if factors := repeat_factors_of(config):
        cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
        cfg.DATALOADER.REPEAT_THRESHOLD = factors.repeat_thresh
        cfg.DATALOADER.REPEAT_SQRT = factors.get("sqrt", True)
    cfg.SOLVER.MAX_ITER = train.max_iter
    cfg.SOLVER.IMS_PER_BATCH = loaders.train.total_batch_size
    cfg.SOLVER.AMP.ENABLED = train.amp.enabled
    cfg.SOLVER.AMP.PRECISION = train.amp.get("precision", cfg.SOLVER.AMP.PRECISION)
    cfg.SOLVER.CHECKPOINT_PERIOD = train.checkpointer.period
    cfg.SOLVER.MAX_SKIPPED_ITERATIONS = train.get(
        "max_skipped_iterations", cfg.SOLVER.MAX_SKIPPED_ITERATIONS
    )
    cfg.SOLVER.ACCUMULATION = train.get("accumulation", cfg.SOLVER.ACCUMULATION)
    for key, value in train.get("clip_gradients", {}).items():
        cfg.SOLVER.CLIP_GRADIENTS[key.upper()] = value
    for key, value in train.get("ema", {}).items():
        cfg.SOLVER.EMA[key.upper()] = value
    cfg.TRACKERS = list(train.get("trackers", []))
    cfg.TEST.EVAL_PERIOD = train.eval_period
    cfg.TEST.EARLY_STOPPING = train.get("early_stopping", cfg.TEST.EARLY_STOPPING)
    for key, value in train.get("test_aug", {}).items():
        cfg.TEST.AUG[key.upper()] = value
    return cfg


def repeat_factors_of(lazy: DictConfig) -> DictConfig | None:
    """Return how a LazyConfig computes the repeat factors of its sampler, if it has those that the
    YAML keys of Detectron2 give."""
    train = lazy.dataloader.train
    sampler: Any = train.get("sampler") or {}
    factors = sampler.get("repeat_factors")
    if sampler.keys() != {"_target_", "repeat_factors"} or not isinstance(factors, DictConfig):
        return None
    formula = "RepeatFactorTrainingSampler.repeat_factors_from_category_frequency"
    is_usual = f"{target_of(sampler).__name__}.{target_of(factors).__name__}" == formula
    return factors if is_usual and factors.dataset_dicts == train.dataset else None


def _dataset_names(dataset: DictConfig) -> tuple[str, ...]:
    names = dataset.names
    return tuple(names) if isinstance(names, ListConfig) else (names,)


def num_classes_of(config: Config) -> tuple[str, int] | None:
    """Return the key that holds the model's number of classes, and the number, if it is known."""
    if isinstance(config, DictConfig):
        return (
            ("model.num_classes", config.model.num_classes)
            if "num_classes" in config.model
            else None
        )
    node = NUM_CLASSES_NODES.get(config.MODEL.META_ARCHITECTURE)
    return (f"MODEL.{node}.NUM_CLASSES", config.MODEL[node].NUM_CLASSES) if node else None


def set_num_classes(config: Config, number: int) -> None:
    """Give the model of ``config`` this number of classes, where it is known how."""
    if isinstance(config, DictConfig):
        if "num_classes" in config.model:
            config.model.num_classes = number
    elif node := NUM_CLASSES_NODES.get(config.MODEL.META_ARCHITECTURE):
        config.MODEL[node].NUM_CLASSES = number
