"""``scopenet train`` and ``train_net.py``: read the config, check it, start the workers, train or
evaluate."""

import argparse
import logging
import sys
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser, default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from ..config_file import Config, find_config, num_classes_of, read_config, settings_of
from ..data.custom import add_flags, entries_of_flags, use_custom_datasets
from ..data.labels import KEPT, Kept
from ..errors import ConfigError, one_sentence_errors
from .checkpoint import SafeCheckpointer, check_same_classes
from .checks import check_class_override, check_config, check_weights, scaling_advice
from .launch import go_on_after_restart, is_under_torchrun, launch
from .lazy import trainer_for
from .schedule import fit_schedule
from .screen import Summary, start_logs
from .trainer import Trainer

EXAMPLES = """
Images and jsons of one's own:
    $ scopenet train --config-file configs/OwnData-ScopeNet_R_50_FPN_GN.yaml \\
        --train-json train.json --train-images train --val-json val.json --val-images val

Go on with an interrupted training, and evaluate what it has made:
    $ scopenet train ... --resume
    $ scopenet train ... --resume --eval-only

Several machines:
    (machine0)$ scopenet train ... --machine-rank 0 --num-machines 2 --dist-url <URL>
    (machine1)$ scopenet train ... --machine-rank 1 --num-machines 2 --dist-url <URL>
"""


def parser() -> argparse.ArgumentParser:
    """Take the flags of Detectron2's ``tools/train_net.py``, and four for data of one's own."""
    return add_flags(default_argument_parser(epilog=EXAMPLES))


def prepare(args: argparse.Namespace) -> tuple[type[Trainer], CfgNode]:
    """Go from the flags to the trainer and the settings it is made with; raise a ConfigError if
    they make no sense. All worker processes have to call it."""
    config = _read(args)
    named = num_classes_of(config)
    use_custom_datasets(config, entries_of_flags(args), training=not args.eval_only)
    check_class_override(args.opts, named, num_classes_of(config))
    check_config(config, training=not args.eval_only)
    cfg = settings_of(config)
    if args.eval_only and not cfg.DATASETS.TEST:
        raise ConfigError(
            "--eval-only has nothing to evaluate on; name a data set in DATASETS.TEST, or give "
            "--val-json and --val-images."
        )
    if args.eval_only and not args.resume and not cfg.MODEL.WEIGHTS:
        raise ConfigError("--eval-only needs weights; set MODEL.WEIGHTS or give --resume.")
    check_weights(cfg.MODEL.WEIGHTS)
    if not args.eval_only:
        fit_schedule(cfg)
    return trainer_for(config), cfg


def _read(args: argparse.Namespace) -> Config:
    if not args.config_file:
        raise ConfigError("No config is given; use --config-file with a .yaml or .py file.")
    return read_config(args.config_file, args.opts)


def evaluate(trainer_class: type[Trainer], cfg: CfgNode, *, resume: bool) -> dict:
    """Evaluate the weights of the config or, to ``resume``, the last checkpoint; raise a
    ConfigError if there is none or it is of other classes."""
    model = trainer_class.build_model(cfg)
    checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR)
    if resume and not checkpointer.has_checkpoint():
        raise ConfigError(
            f"--eval-only --resume, but {cfg.OUTPUT_DIR} has no checkpoint; correct OUTPUT_DIR "
            "or set MODEL.WEIGHTS without --resume."
        )
    loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    for name in cfg.DATASETS.TEST:
        check_same_classes(loaded, MetadataCatalog.get(name).get("thing_classes", []))
    results = trainer_class.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results |= trainer_class.test_with_TTA(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def zero_advice(results: dict | None) -> str:
    """Say what to do about a training that ends with an AP of 0, or ""."""
    if (results or {}).get("bbox", {}).get("AP") != 0:
        return ""
    return (
        "The training ends with an AP of 0: the detector has learned nothing that can be used. If "
        "the losses were still falling, raise SOLVER.EPOCHS or SOLVER.MAX_ITER; if not, look at "
        "the learning rate and at what scopenet check says of the data."
    )


def main(args: argparse.Namespace) -> dict | None:
    """Do the work of one worker process; return the results of the last evaluation."""
    trainer_class, cfg = prepare(args)
    cfg.freeze()
    screen = start_logs(cfg.OUTPUT_DIR)
    default_setup(trainer_class.source_config(cfg), args)
    if args.eval_only:
        screen.is_short = False
        return evaluate(trainer_class, cfg, resume=args.resume)
    if advice := scaling_advice(args.config_file, args.opts):
        logging.getLogger(__name__).warning(advice)
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.register_hooks([Summary(screen)])
    trainer.train()
    if advice := zero_advice(trainer.last_results):
        logging.getLogger(__name__).warning(advice)
    return trainer.last_results


def work(kept: dict[str, Kept], args: argparse.Namespace) -> None:
    """Run :func:`main` in a worker process, whose errors end it with their sentence; ``kept`` is
    what the process that has started it has read of jsons."""
    KEPT.update(kept)
    with one_sentence_errors():
        main(args)


def run(args: argparse.Namespace) -> None:
    """Check the flags and the config, then start the worker processes."""
    args.config_file = args.config_file and find_config(args.config_file)
    # The workers of torchrun are there already: they check together, and one reads for all.
    cfg = settings_of(_read(args)) if is_under_torchrun() else prepare(args)[1]
    if not args.eval_only:
        go_on_after_restart(args, cfg.OUTPUT_DIR)
    if not torch.cuda.is_available():
        print("No GPU found: running on the CPU.", file=sys.stderr, flush=True)
    launch(partial(work, dict(KEPT)), args, cfg.MODEL.DEVICE)
