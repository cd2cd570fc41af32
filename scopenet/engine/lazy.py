"""LazyConfig files (Python programs: trusted input) for the same trainer as YAML configs.

The file has Detectron2's layout: ``model``, ``optimizer``, ``lr_multiplier``, ``dataloader`` and
``train``. Detectron2's own files work too.
"""

import difflib
from collections.abc import Callable, Iterator

import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.solver import LRMultiplier
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig, OmegaConf

from ..config import add_scopenet_config
from ..config_file import ConfigError, find_config
from ..data.loader import build_train_loader, build_validation_loader
from ..data.usable_boxes import drop_unusable_boxes
from .evaluator import CocoEvaluator
from .trainer import Trainer


def load_lazy_config(config_file: str, overrides: list[str]) -> DictConfig:
    """
    Args:
        config_file: a Python file.
        overrides: "path.key=value" strings.

    Raises:
        ConfigError: the file is missing or an override names no key of it.
    """
    lazy = LazyConfig.load(find_config(config_file))
    missing = object()
    known = list(_keys(OmegaConf.to_container(lazy)))
    for override in overrides:
        key = override.split("=")[0]
        if "=" not in override or OmegaConf.select(lazy, key, default=missing) is missing:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
            hint = f", did you mean {close[0]}?" if close else "."
            raise ConfigError(f"Override {override} is not path.key=value of {config_file}{hint}")
    return LazyConfig.apply_overrides(lazy, overrides)


def _keys(node: dict, prefix: str = "") -> Iterator[str]:
    """Dotted names of everything in ``node``, as overrides name it."""
    for name, child in node.items():
        yield f"{prefix}{name}"
        if isinstance(child, dict):
            yield from _keys(child, f"{prefix}{name}.")


def _dataset_names(dataset: DictConfig) -> tuple[str, ...]:
    names = dataset.names
    return tuple(names) if isinstance(names, ListConfig) else (names,)


def architecture(node: DictConfig) -> str:
    """The name of the class of the model, or of another part of a LazyConfig."""
    return getattr(node._target_, "__name__", node._target_)


def _path(target: Callable) -> str:
    """As LazyConfig writes it."""
    return f"{target.__module__}.{target.__name__}"


def run_settings(lazy: DictConfig) -> CfgNode:
    """What the trainer itself reads, as the YAML keys it knows them by; the rest of the node keeps
    its defaults and is not used."""
    cfg = get_cfg()
    add_scopenet_config(cfg)
    train = lazy.train
    cfg.OUTPUT_DIR = train.output_dir
    cfg.SEED = train.get("seed", -1)
    cfg.MODEL.META_ARCHITECTURE = architecture(lazy.model)
    cfg.MODEL.DEVICE = train.device if torch.cuda.is_available() else "cpu"
    cfg.MODEL.WEIGHTS = train.init_checkpoint
    cfg.DATASETS.TRAIN = _dataset_names(lazy.dataloader.train.dataset)
    cfg.DATASETS.TEST = _dataset_names(lazy.dataloader.test.dataset)
    cfg.SOLVER.MAX_ITER = train.max_iter
    cfg.SOLVER.IMS_PER_BATCH = lazy.dataloader.train.total_batch_size
    cfg.SOLVER.AMP.ENABLED = train.amp.enabled
    cfg.SOLVER.CHECKPOINT_PERIOD = train.checkpointer.period
    cfg.SOLVER.MAX_SKIPPED_ITERATIONS = train.get(
        "max_skipped_iterations", cfg.SOLVER.MAX_SKIPPED_ITERATIONS
    )
    for key, value in train.get("clip_gradients", {}).items():
        cfg.SOLVER.CLIP_GRADIENTS[key.upper()] = value
    cfg.TEST.EVAL_PERIOD = train.eval_period
    for key, value in train.get("test_aug", {}).items():
        cfg.TEST.AUG[key.upper()] = value
    return cfg


def lazy_trainer(lazy: DictConfig) -> type[Trainer]:
    """A :class:`Trainer` whose parts come from ``lazy``; its config is ``run_settings(lazy)``."""

    class LazyTrainer(Trainer):
        @classmethod
        def source_config(cls, cfg):
            return lazy

        @classmethod
        def build_model(cls, cfg):
            return instantiate(lazy.model).to(cfg.MODEL.DEVICE)

        @classmethod
        def build_optimizer(cls, cfg, model):
            optimizer = lazy.optimizer.copy()
            optimizer.params.model = model
            return maybe_add_gradient_clipping(cfg, instantiate(optimizer))

        @classmethod
        def build_lr_scheduler(cls, cfg, optimizer):
            multiplier = instantiate(lazy.lr_multiplier)
            return LRMultiplier(optimizer, multiplier, cfg.SOLVER.MAX_ITER)

        @classmethod
        def build_train_loader(cls, cfg):
            train = lazy.dataloader.train
            return build_train_loader(
                instantiate(train.dataset),
                mapper=instantiate(train.mapper),
                total_batch_size=train.total_batch_size,
                seed=cfg.SEED,
                num_workers=train.num_workers,
                aspect_ratio_grouping=train.get("aspect_ratio_grouping", True),
                max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
            )

        @classmethod
        def build_test_loader(cls, cfg, dataset_name):
            test = lazy.dataloader.test.copy()
            if cfg.INPUT.MIN_SIZE_TEST == 0:  # test-time augmentation resizes itself
                test.mapper.augmentations = []
            is_plain = not {"sampler", "collate_fn"} & test.keys()  # which ours does not take
            # Detectron2's stops at the first unreadable image.
            if architecture(test).split(".")[-1] == "build_detection_test_loader" and is_plain:
                test._target_ = _path(build_validation_loader)
                test.max_unreadable = cfg.DATALOADER.MAX_UNREADABLE_IMAGES
            return instantiate(test)

        @classmethod
        def build_labelled_loader(cls, cfg):
            test = lazy.dataloader.test
            mapper = test.mapper.copy()
            mapper.is_train = True  # keeps the boxes
            return build_validation_loader(
                drop_unusable_boxes(instantiate(test.dataset)),
                mapper=instantiate(mapper),
                batch_size=max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()),
                num_workers=test.get("num_workers", 0),
                max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
            )

        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            here = lazy.copy()
            here.train.output_dir = cfg.OUTPUT_DIR
            evaluator = here.dataloader.evaluator
            if architecture(evaluator).split(".")[-1] == "COCOEvaluator":  # Detectron2's
                evaluator._target_ = _path(CocoEvaluator)
            return instantiate(evaluator)

    return LazyTrainer
