"""What ``train_net.py`` does: read the config, check it, start the workers, train or evaluate."""

import argparse
import logging
import sys

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..config_file import ConfigError, find_config, load_config
from ..data.custom import entries_of_flags, lazy_overrides, use_custom_datasets
from .checkpoint import SafeCheckpointer
from .checks import (
    check_config,
    check_datasets,
    check_num_classes,
    check_test_time_augmentation,
    check_weights,
)
from .finetuning import check_same_classes
from .launch import go_on_after_restart, launch
from .lazy import lazy_trainer, load_lazy_config, run_settings
from .program_errors import one_sentence_errors
from .scaling import scaling_advice
from .trainer import Trainer


def read_job(args: argparse.Namespace) -> tuple[type[Trainer], CfgNode]:
    """The trainer and its checked config, from a YAML file or a LazyConfig.

    Args:
        args: of Detectron2's ``default_argument_parser``.

    Raises:
        ConfigError: see :mod:`scopenet.engine.checks` and :func:`scopenet.load_config`.
    """
    if not args.config_file:
        raise ConfigError("No config is given; use --config-file with a .yaml or .py file.")
    flags = entries_of_flags(args)
    if args.config_file.endswith(".py"):
        lazy = load_lazy_config(args.config_file, [*lazy_overrides(flags), *args.opts])
        cfg = run_settings(lazy)
        names = cfg.DATASETS.TEST if args.eval_only else cfg.DATASETS.TRAIN + cfg.DATASETS.TEST
        check_datasets(names)
        if "num_classes" in lazy.model:
            check_num_classes(lazy.model.num_classes, "model.num_classes", names)
        trainer_class = lazy_trainer(lazy)
    else:
        cfg = load_config(args.config_file, args.opts)
        use_custom_datasets(cfg, flags, training=not args.eval_only)
        check_config(cfg, training=not args.eval_only)
        trainer_class = Trainer
    check_test_time_augmentation(cfg)
    check_weights(cfg.MODEL.WEIGHTS, needed=args.eval_only and not args.resume)
    return trainer_class, cfg


def log_to_file(output_dir: str) -> None:
    """What this package logs goes where Detectron2's ``default_setup`` sends its own."""
    logger = logging.getLogger("scopenet")
    if not logger.handlers:
        setup_logger(output_dir, comm.get_rank(), name="scopenet", enable_propagation=True)


def main(args: argparse.Namespace) -> dict | None:
    """The work of one worker process; returns the evaluation's results."""
    trainer_class, cfg = read_job(args)
    cfg.freeze()
    default_setup(trainer_class.source_config(cfg), args)
    log_to_file(cfg.OUTPUT_DIR)
    if args.eval_only:
        model = trainer_class.build_model(cfg)
        checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR)
        if args.resume and not checkpointer.has_checkpoint():
            raise ConfigError(
                f"--eval-only --resume, but {cfg.OUTPUT_DIR} has no checkpoint; correct OUTPUT_DIR "
                "or set MODEL.WEIGHTS without --resume."
            )
        loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        for name in cfg.DATASETS.TEST:
            check_same_classes(loaded, MetadataCatalog.get(name).get("thing_classes", []))
        results = trainer_class.test(cfg, model)
        if cfg.TEST.AUG.ENABLED:
            results |= trainer_class.test_with_TTA(cfg, model)
        if comm.is_main_process():
            verify_results(cfg, results)
        return results
    if advice := scaling_advice(args.config_file, args.opts):
        logging.getLogger(__name__).warning(advice)
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    return getattr(trainer, "_last_eval_results", None)


def work(args: argparse.Namespace) -> None:
    """:func:`main` of a worker process, whose errors end it with their sentence."""
    with one_sentence_errors():
        main(args)


def run(args: argparse.Namespace) -> None:
    """Check, then launch :func:`main`; a config error ends the program with its sentence."""
    with one_sentence_errors():
        args.config_file = args.config_file and find_config(args.config_file)
        _, cfg = read_job(args)
        if not args.eval_only:
            go_on_after_restart(args, cfg.OUTPUT_DIR)
        if not torch.cuda.is_available():
            print("No GPU found: running on the CPU.", file=sys.stderr, flush=True)
        launch(work, args)
