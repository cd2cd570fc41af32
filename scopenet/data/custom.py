"""Data sets of one's own in COCO format, registered by config entries or flags.

An entry of ``DATASETS.CUSTOM`` is ``{name: ..., json: ..., images: ...}``: the name that
``DATASETS.TRAIN`` and ``TEST`` use, the COCO json, and the folder its file names start from.
"""

import argparse
import logging
import os
from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..config_file import Config, set_num_classes, settings_of
from ..errors import ConfigError
from .coco_json import classes_of
from .labels import Kept, keep_labels, uncollected, usable_labels
from .shared_labels import share_labels

Entry = dict[str, str]  # of DATASETS.CUSTOM, with these fields:
FIELDS = ("name", "json", "images")
FLAG_NAMES = {"train": "own_train", "val": "own_val"}


def add_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let the user name data of their own, by four flags."""
    group = parser.add_argument_group("data of your own, see docs/own_data.md")
    for split, purpose in (("train", "train on"), ("val", "evaluate on")):
        group.add_argument(f"--{split}-json", default="", help=f"COCO json to {purpose}")
        group.add_argument(f"--{split}-images", default="", help="folder of its images")
    return parser


def entries_of_flags(args: argparse.Namespace) -> dict[str, Entry]:
    """Return the entry of each split that is given by flags, by "train" and "val"; a json without
    its folder, or the reverse, is a ConfigError."""
    entries = {}
    for split, name in FLAG_NAMES.items():
        json_file, images = (getattr(args, f"{split}_{x}", "") for x in ("json", "images"))
        if bool(json_file) != bool(images):
            raise ConfigError(f"--{split}-json and --{split}-images go together; give both.")
        if json_file:
            # In full, so that the config that is written beside the checkpoints works anywhere.
            paths = {"json": _in_full(json_file), "images": _in_full(images)}
            entries[split] = {"name": name} | paths
    return entries


def _in_full(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)


def use_custom_datasets(config: Config, flags: dict[str, Entry], *, training: bool) -> None:
    """Register the data sets of ``config``, or of :func:`entries_of_flags` in their place, and
    change ``config`` to use them and to have as many classes. An entry or file that is not what it
    should be, and two splits with different classes, are a ConfigError."""
    if flags:
        who, split = ("Training", "train") if training else ("--eval-only", "val")
        if split not in flags:
            raise ConfigError(f"{who} needs --{split}-json and --{split}-images; give both.")
        _add_entries(config, flags)
    for entry in config.DATASETS.CUSTOM if isinstance(config, CfgNode) else flags.values():
        register(entry, share_labels)
    datasets = settings_of(config).DATASETS
    used = (*(datasets.TRAIN if training else ()), *datasets.TEST)
    if names := _shared_classes([x for x in used if is_custom(x)]):
        set_num_classes(config, len(names))


def _add_entries(config: Config, flags: dict[str, Entry]) -> None:
    """Let ``config`` name the data sets of the flags, and no others."""
    train, test = (flags.get(split, {}).get("name") for split in FLAG_NAMES)
    if isinstance(config, CfgNode):
        kept = [x for x in config.DATASETS.CUSTOM if x.get("name") not in FLAG_NAMES.values()]
        config.DATASETS.CUSTOM = [*kept, *flags.values()]
        config.DATASETS.TRAIN = (train,) if train else ()
        config.DATASETS.TEST = (test,) if test else ()
    else:
        config.dataloader.train.dataset.names = train or []
        config.dataloader.test.dataset.names = test or []


def _shared_classes(names: list[str]) -> list[str]:
    """Return the class names of data sets that are used together, or complain that they differ."""
    if not names:
        return []
    first, *others = map(MetadataCatalog.get, names)
    for other in others:
        ours, theirs = first.thing_classes, other.thing_classes
        if ours != theirs:
            unknown = sorted(set(theirs) - set(ours)) or sorted(set(ours) - set(theirs))
            what = f"{', '.join(unknown)} only in one" if unknown else "in another order of ids"
            raise ConfigError(
                f"{other.json_file} has other categories than {first.json_file} ({what}); give "
                "both the same list, in the same order."
            )
    return first.thing_classes


def register(entry: Entry, keep: Callable[[str], Kept] = keep_labels) -> None:
    """Register one entry with Detectron2, in place of an earlier one of its name; ``keep`` reads
    its json. One that is malformed, lacks its files or has the name of another data set is a
    ConfigError."""
    if not isinstance(entry, dict) or sorted(entry) != sorted(FIELDS):
        raise ConfigError(f"An entry of DATASETS.CUSTOM has {', '.join(FIELDS)}; this is {entry}.")
    name, json_file, images = (entry[field] for field in FIELDS)
    if not all(isinstance(x, str) and x for x in (name, json_file, images)):
        raise ConfigError(f"The fields of DATASETS.CUSTOM are text; this is {entry}.")
    if "://" not in images and not os.path.isdir(images):
        raise ConfigError(f"The image folder {images} of data set {name} does not exist.")
    kept = keep(json_file)
    if name in DatasetCatalog:
        if not is_custom(name):
            raise ConfigError(f"DATASETS.CUSTOM: a data set is already called {name}; rename it.")
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, lambda: load(json_file, images))
    metadata = MetadataCatalog.get(name)
    metadata.set(json_file=json_file, image_root=images, evaluator_type="coco", is_custom=True)
    ids = {number: i for i, number in enumerate(kept.classes)}
    metadata.set(thing_classes=[*kept.classes.values()], thing_dataset_id_to_contiguous_id=ids)
    metadata.set(num_images=kept.num_images)


def register_available(cfg: CfgNode) -> None:
    """Register those entries of ``cfg`` whose files are here: a trained model is used elsewhere,
    too, where its data are not."""
    for entry in cfg.DATASETS.CUSTOM:
        paths = (entry.get(field) for field in FIELDS[1:]) if isinstance(entry, dict) else ()
        if all(isinstance(x, str) and os.path.exists(x) for x in paths):
            register(entry)


def is_custom(name: str) -> bool:
    """Tell whether a data set was registered here."""
    return name in MetadataCatalog.list() and MetadataCatalog.get(name).get("is_custom", False)


@uncollected()
def load(json_file: str, images: str) -> list[dict[str, Any]]:
    """Return the usable part of a COCO json in Detectron2's format, and log what is left out; if
    nothing is usable, that is a ConfigError."""
    logger = logging.getLogger(__name__)
    content, dropped = usable_labels(json_file)
    for problem, number in dropped.items():
        logger.warning(f"{json_file}: {number} left out: {problem}.")
    if all(x["iscrowd"] for x in content["annotations"]):
        raise ConfigError(f"{json_file}: no usable boxes, or of crowds only; see scopenet check.")
    used = {x["category_id"] for x in content["annotations"]}
    if unused := [name for number, name in classes_of(content).items() if number not in used]:
        logger.warning(f"{json_file} has no boxes of {', '.join(unused)}.")
    return to_dicts(content, images)


def to_dicts(content: dict[str, Any], images: str) -> list[dict[str, Any]]:
    """Convert a cleaned json to Detectron2's format."""
    classes = {number: i for i, number in enumerate(classes_of(content))}
    dicts = {}
    for x in content["images"]:
        path, size = os.path.join(images, x["file_name"]), {k: x[k] for k in ("height", "width")}
        dicts[x["id"]] = {"file_name": path, "image_id": x["id"], **size, "annotations": []}
    for x in content["annotations"]:
        dicts[x["image_id"]]["annotations"].append(
            {
                "bbox": x["bbox"],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": classes[x["category_id"]],
                "iscrowd": x["iscrowd"],
            }
        )
    return [*dicts.values()]
