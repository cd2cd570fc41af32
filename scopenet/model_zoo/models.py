"""The functions of Detectron2's ``model_zoo``, for this project's configs and models. What is not
there, or not what it should be, is said by a ConfigError.

In all of them ``config_path`` is a config's name below the project's configs, such as
"ScopeNet_R_50_FPN_1x.yaml", and ``zoo`` the folder or the address of a zoo, by default
``$SCOPENET_MODEL_ZOO``; "hf://owner/name[@revision]" as ``config_path`` needs no zoo.
"""

import difflib
import json
import os

from torch import nn

from ..config_file import Config, config_dir, read_config, settings_of
from ..engine.checkpoint import SafeCheckpointer
from ..engine.checks import check_weights
from ..engine.lazy import trainer_for
from ..engine.network import load_model
from ..errors import ConfigError, refused
from . import hub
from .index import CLASS_NAMES, Entry
from .published_config import read_published
from .zoo import Zoo

VARIABLE = "SCOPENET_MODEL_ZOO"
Root = str | os.PathLike | None


def get_config_file(config_path: str) -> str:
    """Find a config of the project, in the installed package or in the clone."""
    folder = config_dir()
    path = folder / config_path.removeprefix("configs/")
    if not path.is_file() or folder.resolve() not in path.resolve().parents:
        raise ConfigError(f"{config_path} is none of the configs in {folder}.")
    return str(path)


def get_checkpoint_url(config_path: str, *, zoo: Root = None) -> str:
    """Say where the published weights are, in Detectron2's format: an address, or a file if the zoo
    is a folder."""
    found, _, entry = _find(config_path, zoo)
    return found.location(f"{entry.folder}/{entry.checkpoint}")


def get_config(config_path: str, trained: bool = False, *, zoo: Root = None) -> Config:
    """Read a config of the project, or the one that its published model was ``trained`` with:
    overrides included, and with ``MODEL.WEIGHTS`` (of a LazyConfig ``train.init_checkpoint``) set
    to the published weights."""
    if trained:
        return _trained_config(*_find(config_path, zoo))
    return read_config(get_config_file(config_path))


def get(
    config_path: str, trained: bool = False, device: str | None = None, *, zoo: Root = None
) -> nn.Module:
    """Load a published model, or make one that starts from the weights that its config names; in
    training mode, on ``device`` or else that of the config."""
    if trained:
        found, name, entry = _find(config_path, zoo)
        return load_model(_trained_config(found, name, entry), _weights(found, entry), device)[0]
    config = get_config(config_path)
    settings = settings_of(config).clone()
    settings.MODEL.DEVICE = device or settings.MODEL.DEVICE
    check_weights(settings.MODEL.WEIGHTS)
    model = trainer_for(config).build_model(settings)
    SafeCheckpointer(model).load(settings.MODEL.WEIGHTS)
    return model


def published(name: str, *, zoo: Root = None) -> tuple[Config, str, list[str] | None]:
    """Return the config of a published model, the file of its verified weights, on this machine,
    and the names of its classes, if they are known; ``name`` is its ``config_path``, with or
    without suffix."""
    found, name, entry = _find(name, zoo)
    config, weights = _trained_config(found, name, entry), _weights(found, entry)
    if CLASS_NAMES not in entry.files:
        return config, weights, None
    path = found.fetch(entry, CLASS_NAMES)
    with refused(f"{path} holds no names of classes"):
        names = json.loads(path.read_bytes())
        if not (isinstance(names, list) and all(isinstance(x, str) for x in names)):
            raise ConfigError("it is no list of strings")
    return config, weights, names


def _find(name: str, root: Root) -> tuple[Zoo, str, Entry]:
    """Find what is published for a config, and the whole name of the config."""
    in_hub = name.startswith(hub.PREFIX)
    root = hub.download(name) if in_hub else root or os.environ.get(VARIABLE)
    if not root:
        raise ConfigError(
            f"No model zoo is given to find {name} in; set {VARIABLE} or the argument `zoo` to its "
            "folder or address, or give the path of a config, of the folder of a training or of an "
            "exported file."
        )
    zoo, name = Zoo(root), name.removeprefix("configs/")
    entries = zoo.entries()
    found = [x for x in entries if in_hub or name in (x, x.rpartition(".")[0])]
    if len(found) != 1:
        close = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(entries)}."
        raise ConfigError(f"{zoo.root} has {len(found) or 'no'} models named {name}; {hint}")
    return zoo, found[0], entries[found[0]]


def _trained_config(zoo: Zoo, name: str, entry: Entry) -> Config:
    path, is_lazy = zoo.fetch(entry, "config.yaml"), name.endswith(".py")
    source = get_config_file(name) if is_lazy else name
    config = read_published(path.read_bytes(), str(path), source)
    node, key = (config.train, "init_checkpoint") if is_lazy else (config.MODEL, "WEIGHTS")
    node[key] = zoo.location(f"{entry.folder}/{entry.checkpoint}")
    return config


def _weights(zoo: Zoo, entry: Entry) -> str:
    return str(zoo.fetch(entry, f"{entry.weights}.safetensors"))
