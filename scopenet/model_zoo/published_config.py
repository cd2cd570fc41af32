"""Configs as they are published: everything that was in force, plain YAML, nothing of a machine."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from omegaconf import OmegaConf

from ..config_file import Config, load_config, read_config, settings_of, to_yaml
from ..errors import ConfigError, refused
from ..safe_yaml import read_yaml

_MACHINE_PATH = re.compile(r"[/~\\]|\.\.[/\\]|file:|[A-Za-z]:[/\\]")
_SHAPE_SPEC = "tag:yaml.org,2002:python/object:detectron2.layers.shape_spec.ShapeSpec"


class _Loader(yaml.SafeLoader):
    """Reads plain YAML, of a path of the machine the file's name only. The one object that
    LazyConfigs of dense detectors hold becomes a call like all others."""

    def construct_text(self, node: yaml.Node) -> str:
        text = self.construct_scalar(node)
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if _MACHINE_PATH.match(text) else text

    def construct_shape_spec(self, node: yaml.Node) -> dict:
        return self.construct_mapping(node) | {"_target_": "detectron2.layers.ShapeSpec"}


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_text)
_Loader.add_constructor(_SHAPE_SPEC, _Loader.construct_shape_spec)


def _scalars(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) of every leaf; a path is made of keys of dicts and indices of lists."""
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _scalars(child, (*path, str(key)))
    else:
        yield path, node


def _is_lazy(config: dict) -> bool:
    return all(isinstance(config.get(x), dict) for x in ("model", "train"))


def publishable(text: str, where: str) -> dict:
    """Read a full config, in YAML, without the paths and the device of the machine it was used on.
    A ConfigError says that what comes from ``where`` is not plain YAML, or asks for something of
    the machine it is read on."""
    with refused(f"The config in {where} is not a full config in plain YAML"):
        config = read_yaml(text, _Loader)
        if not _is_lazy(config):
            config["OUTPUT_DIR"] = "./output"
            config["MODEL"]["WEIGHTS"] = _address_or_name(config["MODEL"]["WEIGHTS"])
            config["MODEL"].pop("DEVICE", None)
            return config
        for _, value in _scalars(config):
            if isinstance(value, str) and "${" in value and ":" in value:
                raise ConfigError(
                    f"it holds {value}, which another machine may resolve to something else; write "
                    "out its value before you train."
                )
        weights = _address_or_name(config["train"]["init_checkpoint"])
        config["train"] |= {"output_dir": "./output", "init_checkpoint": weights}
        config["train"]["device"] = "cuda"  # where there is one, see `settings_of`
        resolved: Any = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
        return resolved


def _address_or_name(path: str) -> str:
    return path if "://" in path else Path(path).name


def read_source(config_file: str) -> dict:
    """Read the config that a trusted file stands for, in the form of :func:`publishable`."""
    return publishable(to_yaml(read_config(config_file)), config_file)


def read_published(text: bytes, where: str, source: str) -> Config:
    """Read a published config, of which nothing is trusted, and that was trained from the config
    file ``source``. What a LazyConfig may call is what that, which is trusted, calls in the same
    places. A ConfigError says that what comes from ``where`` calls something else, is not plain
    YAML, reads other files, or has keys that are unknown."""
    with refused(f"The published config {where} is refused"):
        content = read_yaml(text)
        if _is_lazy(content) != source.endswith(".py"):
            raise ConfigError(f"it is of another kind than {source}, so was not trained with it")
        if _is_lazy(content):
            content = json.loads(json.dumps(content))  # YAML has types that would hide a call
            _check_calls(content, dict(_scalars(read_source(source))), source)
            config = OmegaConf.create(content, flags={"allow_objects": True})
        else:
            config = load_config()
            config.merge_from_other_cfg(CfgNode(content))  # refuses _BASE_, that is, other files
        settings_of(config)  # raises what a trainer would miss
        return config


def _check_calls(config: dict, trusted: dict, source: str) -> None:
    """Refuse to call what is not called at the same path of ``trusted``, which ``source`` holds, or
    what could come from an interpolation."""
    for path, value in _scalars(config):
        if "${" in f"{path}{value}":
            raise ConfigError("it holds ${...}, which may run code")
        if "_target_" in path and (path not in trusted or trusted[path] != value):
            raise ConfigError(f"it calls {value} as {'.'.join(path)}, which {source} does not")
