"""Dataset presets: the data, classes, schedule and network size that replace a config's own.

A preset is a YAML file of the project's configs. What it says of other architectures than the
config's is left out, so one file serves ScopeNet and its peers.
"""

from copy import deepcopy
from pathlib import Path

from detectron2.config import CfgNode, LazyConfig
from detectron2.model_zoo import get_config, get_config_file
from omegaconf import DictConfig

from scopenet.config_file import config_dir, find_config, load_config
from scopenet.errors import ConfigError

# Which node of MODEL an architecture reads.
_ARCHITECTURE_NODES = {"ScopeNet": "SCOPENET", "RetinaNet": "RETINANET"}


def preset_names() -> list[str]:
    return sorted(path.stem for path in (config_dir() / "presets").glob("*.yaml"))


def read_preset(name: str) -> CfgNode:
    """
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


def read_config(name: str) -> CfgNode | DictConfig:
    """A config file, or a config of Detectron2's zoo (trusted, as it comes with Detectron2).

    Args:
        name: a path here or below the project's configs, or a name of the zoo such as
            "COCO-Detection/fcos_R_50_FPN_1x.py".

    Raises:
        ConfigError: there is no such file.
    """
    try:
        path = find_config(name)
    except ConfigError:
        try:
            get_config_file(name)
        except RuntimeError:
            raise ConfigError(
                f"Config {name} is neither a file, nor in {config_dir()}, nor in Detectron2's zoo."
            ) from None
        config = get_config(name)
        if isinstance(config, DictConfig):
            return config
        cfg = load_config()  # with this project's keys and device
        device = cfg.MODEL.DEVICE
        cfg.merge_from_other_cfg(config)
        cfg.MODEL.DEVICE = device
        return cfg
    return LazyConfig.load(path) if path.endswith(".py") else load_config(path)


def apply_preset(cfg: CfgNode, preset: CfgNode) -> None:
    """Merge ``preset`` into ``cfg``, but for the nodes of other architectures."""
    preset = deepcopy(preset)
    architecture = cfg.MODEL.META_ARCHITECTURE
    own = _ARCHITECTURE_NODES.get(architecture, "ROI_HEADS")
    for node in {"SCOPENET", "RETINANET", "ROI_HEADS"} - {own}:
        preset.get("MODEL", {}).pop(node, None)
    cfg.merge_from_other_cfg(preset)
