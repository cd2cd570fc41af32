"""Data sets of one's own in COCO format, registered by config entries or flags.

An entry of ``DATASETS.CUSTOM`` is ``{name: ..., json: ..., images: ...}``: the name that
``DATASETS.TRAIN`` and ``TEST`` use, the COCO json, and the folder its file names start from.
"""

import argparse
import logging
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..config_file import Config, set_num_classes, settings_of
from ..errors import ConfigError
from .coco_json import class_names, class_of_category, clean, read_coco_json

FIELDS = ("name", "json", "images")
FLAG_NAMES = {"train": "own_train", "val": "own_val"}


def add_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let the user name data of their own, by four flags."""
    group = parser.add_argument_group("data of your own, see docs/own_data.md")
    for split, purpose in (("train", "train on"), ("val", "evaluate on")):
        group.add_argument(f"--{split}-json", default="", help=f"COCO json to {purpose}")
        group.add_argument(f"--{split}-images", default="", help="folder of its images")
    return parser


def entries_of_flags(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Return the entry of each split that is given by flags, by "train" and "val".

    Raises:
        ConfigError: a json without its folder, or the reverse.
    """
    entries = {}
    for split, name in FLAG_NAMES.items():
        json_file, images = (getattr(args, f"{split}_{x}", "") for x in ("json", "images"))
        if bool(json_file) != bool(images):
            raise ConfigError(f"--{split}-json and --{split}-images go together; give both.")
        if json_file:
            # In full, so that the config that is written beside the checkpoints works anywhere.
            paths = {"json": os.path.abspath(json_file), "images": os.path.abspath(images)}
            entries[split] = {"name": name} | paths
    return entries


def use_custom_datasets(
    config: Config, flags: dict[str, dict[str, str]], *, training: bool
) -> None:
    """Register the data sets of ``config`` and of the flags, and give the model their classes.

    Args:
        config: changed: the flags' data sets, and the number of classes.
        flags: of :func:`entries_of_flags`.
        training: whether the training set is used.

    Raises:
        ConfigError: an entry or its file is not what it should be, or two splits differ in their
            classes.
    """
    if flags and training and "train" not in flags:
        raise ConfigError("Training needs --train-json and --train-images; give both.")
    if flags and not training and "val" not in flags:
        raise ConfigError("--eval-only needs --val-json and --val-images; give both.")
    if flags:
        _add_entries(config, flags)
    for entry in config.DATASETS.CUSTOM if isinstance(config, CfgNode) else flags.values():
        register(entry)
    datasets = settings_of(config).DATASETS
    used = (*(datasets.TRAIN if training else ()), *datasets.TEST)
    if names := check_classes([x for x in used if is_custom(x)]):
        set_num_classes(config, len(names))


def _add_entries(config: Config, flags: dict[str, dict[str, str]]) -> None:
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


def register(entry: dict[str, str]) -> None:
    """Register one entry with Detectron2, in place of an earlier one of its name.

    Raises:
        ConfigError: the entry is malformed, its files are missing, or its name is taken.
    """
    if not isinstance(entry, dict) or sorted(entry) != sorted(FIELDS):
        raise ConfigError(f"An entry of DATASETS.CUSTOM has {', '.join(FIELDS)}; this is {entry}.")
    name, json_file, images = (entry[field] for field in FIELDS)
    if not all(isinstance(x, str) and x for x in (name, json_file, images)):
        raise ConfigError(f"The fields of DATASETS.CUSTOM are text; this is {entry}.")
    if not os.path.isdir(images):
        raise ConfigError(f"The image folder {images} of data set {name} does not exist.")
    content = read_coco_json(json_file)
    if name in DatasetCatalog:
        if not is_custom(name):
            raise ConfigError(f"DATASETS.CUSTOM: a data set is already called {name}; rename it.")
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, lambda: load(json_file, images))
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=images,
        evaluator_type="coco",
        is_custom=True,
        thing_classes=class_names(content),
        thing_dataset_id_to_contiguous_id=class_of_category(content),
    )


def register_available(cfg: CfgNode) -> None:
    """Register those entries of ``cfg`` whose files are here.

    A trained model is used elsewhere, too, where its data are not.

    Raises:
        ConfigError: as :func:`register`, but for missing files.
    """
    for entry in cfg.DATASETS.CUSTOM:
        paths = (entry.get(field) for field in FIELDS[1:]) if isinstance(entry, dict) else ()
        if all(isinstance(x, str) and os.path.exists(x) for x in paths):
            register(entry)


def is_custom(name: str) -> bool:
    """Tell whether a data set was registered here."""
    return name in MetadataCatalog.list() and MetadataCatalog.get(name).get("is_custom", False)


def check_classes(names: list[str]) -> list[str]:
    """Look whether data sets have the same classes.

    Args:
        names: registered data sets that are used together.

    Returns:
        the class names that they share; empty without data sets.

    Raises:
        ConfigError: they differ in their classes or in the order of these.
    """
    if not names:
        return []
    first = MetadataCatalog.get(names[0])
    for name in names[1:]:
        other = MetadataCatalog.get(name)
        ours, theirs = first.thing_classes, other.thing_classes
        if ours != theirs:
            unknown = sorted(set(theirs) - set(ours)) or sorted(set(ours) - set(theirs))
            what = f"{', '.join(unknown)} only in one" if unknown else "in another order of ids"
            raise ConfigError(
                f"{other.json_file} has other categories than {first.json_file} ({what}); give "
                "both the same list, in the same order."
            )
    return first.thing_classes


def load(json_file: str, images: str) -> list[dict[str, Any]]:
    """Return the usable part of a COCO json in Detectron2's format, and log what is left out.

    Raises:
        ConfigError: no annotation is usable; see also :func:`~.coco_json.read_coco_json`.
    """
    content, dropped = clean(read_coco_json(json_file))
    for problem, number in dropped.items():
        logging.getLogger(__name__).warning(f"{json_file}: {number} left out: {problem}.")
    if all(x["iscrowd"] for x in content["annotations"]):
        raise ConfigError(
            f"{json_file} has no usable boxes, or of crowds only; scopenet check says what is "
            "wrong."
        )
    dicts = to_dicts(content, images)
    used = {x["category_id"] for sample in dicts for x in sample["annotations"]}
    if unused := [x for i, x in enumerate(class_names(content)) if i not in used]:
        logging.getLogger(__name__).warning(f"{json_file} has no boxes of {', '.join(unused)}.")
    return dicts


def to_dicts(content: dict[str, Any], images: str) -> list[dict[str, Any]]:
    """Convert a cleaned json to Detectron2's format."""
    classes = class_of_category(content)
    dicts = {
        x["id"]: {
            "file_name": os.path.join(images, x["file_name"]),
            "image_id": x["id"],
            "height": x["height"],
            "width": x["width"],
            "annotations": [],
        }
        for x in content["images"]
    }
    for annotation in content["annotations"]:
        fields = {
            "bbox": annotation["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": classes[annotation["category_id"]],
            "iscrowd": annotation["iscrowd"],
        }
        dicts[annotation["image_id"]]["annotations"].append(fields)
    return [*dicts.values()]
