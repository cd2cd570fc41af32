"""How config files are found and read."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

from .config import add_scopenet_config
from .errors import ConfigError


def config_dir() -> Path:
    """The folder of the project's configs: in the installed package, or else in the clone."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(path: str) -> str:
    """``path`` itself, or where it is below the project's configs.

    Raises:
        ConfigError: there is no such file in either place.
    """
    name = path.removeprefix("configs/")
    for candidate in (Path(path), config_dir() / name):
        if candidate.is_file():
            return str(candidate)
    raise ConfigError(f"Config file {path} does not exist, neither here nor in {config_dir()}.")


def load_config(config_file: str = "", overrides: list[str] | None = None) -> CfgNode:
    """A full config from a YAML file and a list of overrides "KEY", "VALUE", ...

    The YAML is read safely: tags that would run code are refused. Without a CUDA device
    ``MODEL.DEVICE`` becomes "cpu" unless the file or an override names a device.

    Raises:
        ConfigError: the file is missing, is not plain YAML, or a key is unknown or has a value of
            the wrong type.
    """
    cfg = get_cfg()
    add_scopenet_config(cfg)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    overrides = list(overrides or [])
    if len(overrides) % 2:
        raise ConfigError(f"Overrides are pairs KEY VALUE, got an odd number: {overrides}.")
    try:
        if config_file:
            cfg.merge_from_file(find_config(config_file), allow_unsafe=False)
        cfg.merge_from_list(overrides)
    except Exception as error:  # yacs and PyYAML raise nearly anything for a malformed file
        raise _explain(error, cfg, config_file) from error
    return cfg


def _explain(error: Exception, cfg: CfgNode, config_file: str) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, yaml.YAMLError):
        problem = " ".join(str(error).split())
        return ConfigError(f"{config_file} is not plain YAML: {problem}.")
    message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    where = f"{config_file} or the overrides" if config_file else "the overrides"
    if "Non-existent" in message:
        key = message.split(":")[-1].strip()
        close = difflib.get_close_matches(key, all_keys(cfg), n=1, cutoff=0.7)
        hint = f", did you mean {close[0]}?" if close else "."
        return ConfigError(f"Unknown key {key} in {where}{hint}")
    return ConfigError(f"In {where}: {' '.join(message.split()).rstrip('.')}.")


def leaves(cfg: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every leaf of ``cfg``, a ``CfgNode`` or any other dict of dicts."""
    for name, value in cfg.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def all_keys(cfg: CfgNode) -> list[str]:
    """Dotted names of all leaves of ``cfg``."""
    return [key for key, _ in leaves(cfg)]
