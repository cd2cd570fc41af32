"""Checks of a config at start-up: one sentence now instead of a stack trace an hour later."""

import difflib
import math
import os
from collections.abc import Sequence

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from omegaconf import DictConfig, OmegaConf

from ..config_file import (
    Config,
    all_keys,
    num_classes_of,
    read_config,
    repeat_factors_of,
    settings_of,
    target_of,
)
from ..errors import ConfigError
from ..modeling.test_time_augmentation import check_view_sizes
from ..modeling.timm_backbone import SCHEME, check_pixels

LOG_PERIOD = 20  # iterations, of Detectron2's writers
# What is used of a LazyConfig's training loader.
_LAZY_LOADER = {
    "_target_",
    "dataset",
    "mapper",
    "total_batch_size",
    "num_workers",
    "aspect_ratio_grouping",
}
# How to make a data set whose files are missing, by the first part of its name.
_HOW_TO_MAKE = {
    "digits": "run: python datasets/prepare_digits.py",
    "trees": "run: python datasets/prepare_trees.py",
}


def check_datasets(names: tuple[str, ...]) -> None:
    """Raise a ConfigError if a data set is not registered, or its files are missing."""
    for name in names:
        if name not in DatasetCatalog.list():
            close = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
            hint = f"; did you mean {close[0]}?" if close else "; register it first."
            raise ConfigError(f"Data set {name} in DATASETS is not registered{hint}")
        metadata = MetadataCatalog.get(name)
        how = _HOW_TO_MAKE.get(
            name.split("_")[0], "put it there or set DETECTRON2_DATASETS to the folder it is in"
        )
        for path in (metadata.get("json_file"), metadata.get("image_root")):
            if path and "://" not in path and not os.path.exists(path):
                raise ConfigError(f"Data set {name}: {path} does not exist; {how}.")


def check_num_classes(key: str, num_classes: int, names: tuple[str, ...]) -> None:
    """Raise a ConfigError if the model's number of classes, which comes from the config key
    ``key``, differs from that of a data set; their files exist."""
    for name in names:
        metadata = MetadataCatalog.get(name)
        if metadata.get("thing_classes") is None:
            DatasetCatalog.get(name)  # fills in the class names of the json
        classes = metadata.get("thing_classes")
        if classes is not None and len(classes) != num_classes:
            raise ConfigError(
                f"{key} is {num_classes}, but data set {name} has {len(classes)} classes; "
                f"set {key} to {len(classes)}."
            )


def check_class_override(
    overrides: Sequence[str], before: tuple[str, int] | None, after: tuple[str, int] | None
) -> None:
    """Raise a ConfigError if an override gives a number of classes that is not that of the data of
    one's own; ``before`` and ``after`` these are read, key and number."""
    if not before or not after or before == after:
        return
    if any(x.partition("=")[0] == before[0] for x in overrides):
        raise ConfigError(
            f"{before[0]} is {before[1]}, but the json has {after[1]} categories; leave the key "
            "out, it is set by the json."
        )


def check_ignored_keys(cfg: CfgNode) -> None:
    """Raise a ConfigError if a key of another architecture was changed: ScopeNet ignores it."""
    defaults = get_cfg()
    for node in ("ROI_HEADS", "RETINANET"):
        for key in all_keys(cfg.MODEL[node]):
            if cfg.MODEL[node][key] != defaults.MODEL[node][key]:
                has_own = key in cfg.MODEL.SCOPENET
                advice = f"set MODEL.SCOPENET.{key} instead" if has_own else "remove it"
                raise ConfigError(f"MODEL.{node}.{key} has no effect on ScopeNet; {advice}.")


def check_ignored_lazy_keys(lazy: DictConfig) -> None:
    """Raise a ConfigError if a LazyConfig sets something of Detectron2's layout that this trainer
    does otherwise."""
    loader, train = lazy.dataloader.train, lazy.train
    used = _LAZY_LOADER | ({"sampler"} if repeat_factors_of(lazy) else set())
    ignored = [f"dataloader.train.{k}" for k in loader if k not in used and loader[k]]
    if target_of(loader) is not build_detection_train_loader:
        ignored.append("dataloader.train._target_")
    ignored += [f"train.ddp.{k}" for k, is_set in train.get("ddp", {}).items() if is_set]
    ignored += ["train.log_period"] * (train.get("log_period", LOG_PERIOD) != LOG_PERIOD)
    max_to_keep = train.checkpointer.get("max_to_keep") or math.inf
    if train.max_iter > max_to_keep * train.checkpointer.period:
        ignored.append("train.checkpointer.max_to_keep")  # all are kept
    if ignored:
        raise ConfigError(f"{ignored[0]} would have no effect here; leave it as Detectron2 has it.")


def check_weights(path: str) -> None:
    """Raise a ConfigError if a file of weights does not exist; ``path`` may also be "" or an
    address that Detectron2 knows how to fetch."""
    if path and "://" not in path and not os.path.exists(path.partition("?")[0]):
        raise ConfigError(
            f"The weights {path} do not exist; correct MODEL.WEIGHTS (LazyConfig: "
            "train.init_checkpoint) or --weights."
        )


def check_reference_world_size(cfg: CfgNode) -> None:
    """Raise a ConfigError if ``SOLVER.REFERENCE_WORLD_SIZE`` workers cannot share the batch."""
    workers, batch = cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH
    if workers and batch % workers:
        raise ConfigError(
            f"SOLVER.REFERENCE_WORLD_SIZE {workers} does not divide SOLVER.IMS_PER_BATCH {batch}; "
            "give the batch that so many workers share, it is scaled to those that run."
        )


def check_test_time_augmentation(cfg: CfgNode) -> None:
    """Raise a ConfigError if ``TEST.AUG`` is enabled for a detector without it, or its sizes make
    no sense."""
    aug, name = cfg.TEST.AUG, cfg.MODEL.META_ARCHITECTURE
    if not aug.ENABLED:
        return
    if name != "ScopeNet":
        raise ConfigError(
            f"TEST.AUG.ENABLED is True, but {name} has no test-time augmentation here, only "
            "ScopeNet has; set it to False."
        )
    check_view_sizes(aug.MIN_SIZES, aug.MAX_SIZE)


def check_early_stopping(cfg: CfgNode) -> None:
    """Raise a ConfigError if ``TEST.EARLY_STOPPING`` has no evaluations to go by."""
    patience = cfg.TEST.EARLY_STOPPING
    if patience < 0:
        raise ConfigError(
            f"TEST.EARLY_STOPPING is {patience}; give the number of evaluations without a better "
            "AP after which training stops, 0 for never."
        )
    if patience and not (cfg.DATASETS.TEST and cfg.TEST.EVAL_PERIOD > 0):
        raise ConfigError(
            f"TEST.EARLY_STOPPING is {patience}, but nothing is evaluated during the training; "
            "set DATASETS.TEST and TEST.EVAL_PERIOD (LazyConfig: train.eval_period)."
        )


def check_pixels_of_timm(config: Config) -> None:
    """Raise a ConfigError if pretrained weights of timm would see other images than they know."""
    weights = settings_of(config).MODEL.WEIGHTS
    if not weights.startswith(SCHEME):
        return
    if isinstance(config, CfgNode):
        mean, std, order = config.MODEL.PIXEL_MEAN, config.MODEL.PIXEL_STD, config.INPUT.FORMAT
    else:
        mean, std = config.model.pixel_mean, config.model.pixel_std
        order = config.dataloader.train.mapper.image_format
    check_pixels(weights, mean, std, order)


def check_config(config: Config, *, training: bool) -> None:
    """Raise a ConfigError for the first thing found wrong in a config of either kind, whose data
    sets are registered."""
    cfg = settings_of(config)
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if training else tuple(cfg.DATASETS.TEST)
    if training and not cfg.DATASETS.TRAIN:
        raise ConfigError(
            "DATASETS.TRAIN is empty; name a registered data set, or give --train-json and "
            "--train-images."
        )
    if training:
        check_reference_world_size(cfg)
        check_early_stopping(cfg)
        check_pixels_of_timm(config)
    if isinstance(config, DictConfig):
        check_ignored_lazy_keys(config)
    elif cfg.MODEL.META_ARCHITECTURE == "ScopeNet":
        check_ignored_keys(cfg)
    check_datasets(names)
    if known := num_classes_of(config):
        check_num_classes(*known, names)
    check_test_time_augmentation(cfg)


def _batch_and_rate(config_file: str, overrides: list[str]) -> tuple[int, float | None]:
    """Return images per iteration and the base learning rate, None where there is none."""
    config = read_config(config_file, overrides)
    batch = settings_of(config).SOLVER.IMS_PER_BATCH
    if isinstance(config, DictConfig):
        return batch, OmegaConf.select(config, "optimizer.lr")
    return batch, config.SOLVER.BASE_LR


def scaling_advice(config_file: str, overrides: list[str]) -> str:
    """Say what follows from overrides that change the batch but not the learning rate, or ""."""
    batch, rate = _batch_and_rate(config_file, overrides)
    usual_batch, usual_rate = _batch_and_rate(config_file, [])
    if batch == usual_batch or rate is None or rate != usual_rate:
        return ""
    return (
        f"The learning rate {rate:g} of {config_file} is for {usual_batch} images per iteration, "
        f"not {batch}: training may {'diverge' if batch < usual_batch else 'be slow'}. Linear "
        f"scaling gives {rate * batch / usual_batch:g} and {usual_batch / batch:g} times the "
        "iterations."
    )
