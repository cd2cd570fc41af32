"""Configs as they are published: everything that was in force, plain YAML, nothing of a machine."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from omegaconf import DictConfig, OmegaConf

from ..config_file import load_config
from ..errors import ConfigError
from ..engine.lazy import load_lazy_config
from ..engine.trainer import to_yaml

_MACHINE_PATH = re.compile(r"[/~\\]|\.\.[/\\]|file:|[A-Za-z]:[/\\]")
_SHAPE_SPEC = "tag:yaml.org,2002:python/object:detectron2.layers.shape_spec.ShapeSpec"


class _Loader(yaml.SafeLoader):
    """Plain YAML, and the one object that LazyConfigs of dense detectors hold: it becomes a call
    like all others."""


_Loader.add_constructor(
    _SHAPE_SPEC,
    lambda loader, node: (
        loader.construct_mapping(node) | {"_target_": "detectron2.layers.ShapeSpec"}
    ),
)


@contextmanager
def _one_sentence(where: str) -> Iterator[None]:
    """A config may be anything, and then reading it raises nearly anything."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        kind = "plain YAML" if isinstance(error, yaml.YAMLError) else "a full config"
        reason = " ".join(f"{type(error).__name__}, {error}".split()).rstrip(".")
        raise ConfigError(f"The config in {where} is not {kind}: {reason}.") from error


def _scalars(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Keys and indices to, and value, of all below ``node`` that is no dict and no list."""
    if isinstance(node, (dict, list)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _scalars(child, (*path, str(key)))
    else:
        yield path, node


def _without_paths(node: Any) -> Any:
    """Of files on this machine only the names."""
    if isinstance(node, dict):
        return {key: _without_paths(x) for key, x in node.items()}
    if isinstance(node, list):
        return [_without_paths(x) for x in node]
    is_path = isinstance(node, str) and _MACHINE_PATH.match(node)
    return re.split(r"[/\\]", node.rstrip("/\\"))[-1] if is_path else node


def _weights(path: str) -> str:
    """An address stays, of a file the name."""
    return path if "://" in path else Path(path).name


def is_lazy(config: dict) -> bool:
    return all(isinstance(config.get(x), dict) for x in ("model", "train"))


def publishable(text: str, where: str) -> dict:
    """A full config without the paths and the device of the machine it was used on.

    Args:
        text: as :func:`~scopenet.engine.trainer.to_yaml` gives it.
        where: it comes from, for messages.

    Raises:
        ConfigError: it is not plain YAML, or asks for something of the machine it is read on.
    """
    with _one_sentence(where):
        config = _without_paths(yaml.load(text, _Loader))
        return _lazy_publishable(config, where) if is_lazy(config) else _yacs_publishable(config)


def _yacs_publishable(config: dict) -> dict:
    config["OUTPUT_DIR"] = "./output"
    config["MODEL"]["WEIGHTS"] = _weights(config["MODEL"]["WEIGHTS"])
    config["MODEL"].pop("DEVICE", None)
    return config


def _lazy_publishable(config: dict, where: str) -> dict:
    for _, value in _scalars(config):
        if isinstance(value, str) and "${" in value and ":" in value:
            raise ConfigError(
                f"The config in {where} holds {value}, which another machine may resolve to "
                "something else; write out its value before you train."
            )
    config["train"] |= {
        "output_dir": "./output",
        "init_checkpoint": _weights(config["train"]["init_checkpoint"]),
        "device": "cuda",  # where there is one, see `run_settings`
    }
    return OmegaConf.to_container(OmegaConf.create(config), resolve=True)


def read_source(config_file: str) -> dict:
    """The config that a file stands for, in the form of :func:`publishable`."""
    is_program = config_file.endswith(".py")
    config = load_lazy_config(config_file, []) if is_program else load_config(config_file)
    return publishable(to_yaml(config), config_file)


def _calls(config: dict) -> dict[str, Any]:
    """Dotted name of all that says what to call -> what it says."""
    return {".".join(path): x for path, x in _scalars(config) if "_target_" in path}


def read_published(path: Path, source: str) -> CfgNode | DictConfig:
    """A published config, of which nothing is trusted.

    Args:
        path: the YAML file.
        source: the config file it was trained from. What a LazyConfig may call is what this
            program, which is trusted, calls itself in the same places.

    Raises:
        ConfigError: it is not plain YAML, reads other files, has keys that are unknown, or is a
            LazyConfig that calls something else.
    """
    with _one_sentence(str(path)):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if is_lazy(config) != source.endswith(".py"):
            raise ConfigError(f"The published config {path} is of another kind than {source}.")
        if is_lazy(config):
            config = json.loads(json.dumps(config))  # YAML has types that would hide a call
            _check_calls(config, path, source)
            return OmegaConf.create(config, flags={"allow_objects": True})
        if "_BASE_" in config:
            raise ConfigError(f"The published config {path} refers to another file.")
        return load_config(str(path))


def _check_calls(config: dict, path: Path, source: str) -> None:
    """
    Raises:
        ConfigError: a name is called that ``source`` does not call, or could come from an
            interpolation.
    """
    if any("${" in f"{names}{x}" for names, x in _scalars(config)):
        raise ConfigError(f"The published config {path} holds ${{...}}, which may run code.")
    trusted = _calls(read_source(source))
    for name, called in _calls(config).items():
        if name not in trusted or trusted[name] != called:
            raise ConfigError(
                f"The published config {path} calls {called} as {name}, which {source} does not."
            )
