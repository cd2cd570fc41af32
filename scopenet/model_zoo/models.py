"""Detectron2's model zoo interface, for this project's configs and models."""

import os

import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.modeling import build_model
from omegaconf import DictConfig
from torch import nn

from ..config_file import config_dir, load_config
from ..errors import ConfigError
from ..engine.checkpoint import SafeCheckpointer, StrictCheckpointer
from ..engine.checks import check_weights
from .index import Entry
from .published_config import read_published
from .root import Zoo

Root = str | os.PathLike | None  # of a zoo, see `Zoo`


def get_config_file(config_path: str) -> str:
    """Where a config of the project is, in the installed package or in the clone.

    Args:
        config_path: relative to the project's configs, such as "ScopeNet_R_50_FPN_1x.yaml".

    Raises:
        ConfigError: there is no such config.
    """
    folder = config_dir()
    path = folder / config_path.removeprefix("configs/")
    if not path.is_file() or folder.resolve() not in path.resolve().parents:
        raise ConfigError(f"{config_path} is none of the configs in {folder}.")
    return str(path)


def get_checkpoint_url(config_path: str, *, zoo: Root = None) -> str:
    """Where the weights trained with a config are, in Detectron2's format: an address, or a file
    name if the zoo is a folder.

    Args:
        config_path: see :func:`get_config_file`.
        zoo: a folder or an address, by default ``$SCOPENET_MODEL_ZOO``.

    Raises:
        ConfigError: the zoo has no such model, or is none.
    """
    zoo = Zoo(zoo)
    entry = zoo.entry(config_path)
    return zoo.location(f"{entry.folder}/{entry.weights}.pkl")


def get_config(
    config_path: str, trained: bool = False, *, zoo: Root = None
) -> CfgNode | DictConfig:
    """A config of the project, or the one that its published model was trained with.

    Args:
        config_path, zoo: see :func:`get_checkpoint_url`.
        trained: the published config, overrides included, with ``MODEL.WEIGHTS`` (of a LazyConfig
            ``train.init_checkpoint``) set to the published weights.

    Raises:
        ConfigError: there is no such config or model, or its files are not what they should be.
    """
    if trained:
        zoo = Zoo(zoo)
        return _trained_config(config_path, zoo, zoo.entry(config_path))
    path = get_config_file(config_path)
    return LazyConfig.load(path) if path.endswith(".py") else load_config(path)


def get(
    config_path: str, trained: bool = False, device: str | None = None, *, zoo: Root = None
) -> nn.Module:
    """A model of the project, in training mode.

    Args:
        config_path, trained, zoo: see :func:`get_config`; an untrained model starts from the
            weights that its config names.
        device: in place of the config's.

    Raises:
        ConfigError: see :func:`get_config`; or the weights do not fit.
    """
    if trained:
        zoo = Zoo(zoo)
        entry = zoo.entry(config_path)
        config = _trained_config(config_path, zoo, entry)
        return load_model(config, str(zoo.fetch(entry, f"{entry.weights}.safetensors")), device)
    config = get_config(config_path)
    is_yacs = isinstance(config, CfgNode)
    weights = config.MODEL.WEIGHTS if is_yacs else config.train.init_checkpoint
    check_weights(weights, needed=False)
    model = build(config, device)
    SafeCheckpointer(model).load(weights)
    return model


def _trained_config(config_path: str, zoo: Zoo, entry: Entry) -> CfgNode | DictConfig:
    source = get_config_file(config_path) if config_path.endswith(".py") else config_path
    config = read_published(zoo.fetch(entry, "config.yaml"), source)
    address = zoo.location(f"{entry.folder}/{entry.weights}.pkl")
    if isinstance(config, CfgNode):
        config.MODEL.WEIGHTS = address
    else:
        config.train.init_checkpoint = address
    return config


def build(config: CfgNode | DictConfig, device: str | None = None) -> nn.Module:
    """The model of a config, with weights as they are drawn."""
    if isinstance(config, CfgNode):
        if device is not None:
            config.MODEL.DEVICE = device
        return build_model(config)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    model = instantiate(config.model)
    return model if device is None else model.to(device)


def load_model(config: CfgNode | DictConfig, weights: str, device: str | None = None) -> nn.Module:
    """The model of a config with the weights of a file.

    Raises:
        ConfigError: there is no model of this config, or they leave a part of it as it was.
    """
    try:
        model = build(config, device)
        assert isinstance(model, nn.Module), type(model).__name__
    except Exception as error:  # a config of others may ask for anything
        reason = " ".join(f"{type(error).__name__}, {error}".split()).rstrip(".")
        raise ConfigError(f"The published config makes no model: {reason}.") from error
    StrictCheckpointer(model).load(weights)
    return model
