"""Dataset presets: the data, classes, schedule and network size that replace a config's own.

A preset is a YAML file of the project's configs. What it says of other architectures than the
config's is left out, so one file serves ScopeNet and its peers.
"""

from copy import deepcopy
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.model_zoo import get_config
from omegaconf import DictConfig

from scopenet.config_file import (
    NUM_CLASSES_NODES,
    Config,
    config_dir,
    find_config,
    load_config,
    read_config,
)
from scopenet.errors import ConfigError


def preset_names() -> list[str]:
    return sorted(path.stem for path in (config_dir() / "presets").glob("*.yaml"))


def read_preset(name: str) -> CfgNode:
    """Read a preset: only the keys that it sets.

    Args:
        name: of a preset of the project, or a YAML file of one's own.

    Raises:
        ConfigError: there is no such preset, or it is not plain YAML of known keys.
    """
    is_file = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_file else config_dir() / "presets" / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(preset_names())
        raise ConfigError(f"Preset {name} is neither a YAML file nor one of {names}.")
    load_config(str(path))  # explains what is wrong with it
    return CfgNode(CfgNode.load_yaml_with_base(str(path), allow_unsafe=False))


def read_any_config(name: str) -> Config:
    """Read a config of one's own, of the project, or of Detectron2's zoo (trusted).

    Args:
        name: a path here or below the project's configs, or a name of the zoo such as
            "COCO-Detection/fcos_R_50_FPN_1x.py".

    Raises:
        ConfigError: there is no such file.
    """
    try:
        path = find_config(name)
    except ConfigError:
        return _zoo_config(name)
    return read_config(path)


def _zoo_config(name: str) -> Config:
    try:
        config = get_config(name)
    except RuntimeError:
        raise ConfigError(
            f"Config {name} is neither a file, nor in {config_dir()}, nor in Detectron2's zoo."
        ) from None
    if isinstance(config, DictConfig):
        return config
    cfg = load_config()  # with this project's keys and device
    config.MODEL.DEVICE = cfg.MODEL.DEVICE
    cfg.merge_from_other_cfg(config)
    return cfg


def apply_preset(cfg: CfgNode, preset: CfgNode) -> None:
    """Merge ``preset`` into ``cfg``, but for the nodes of other architectures."""
    preset = deepcopy(preset)
    own = NUM_CLASSES_NODES.get(cfg.MODEL.META_ARCHITECTURE, "ROI_HEADS")
    for node in {*NUM_CLASSES_NODES.values(), "ROI_HEADS"} - {own}:
        preset.get("MODEL", {}).pop(node, None)
    cfg.merge_from_other_cfg(preset)
