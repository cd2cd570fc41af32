"""How long a training is, by the number of its images, and what depends on its length."""

import math

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import ConfigError

WARMUP_SHARE = 10  # the warm-up is at most this part of a training, here a tenth
NUM_LOOKS = 20  # evaluations and checkpoints of a training are at most so many, or else an epoch's


def fit_schedule(cfg: CfgNode) -> None:
    """Set what follows from ``SOLVER.EPOCHS``, if it is not 0, by the number of training images.

    ``SOLVER.MAX_ITER`` becomes so many epochs if it is 0. ``WARMUP_ITERS``, ``CHECKPOINT_PERIOD``
    and ``TEST.EVAL_PERIOD`` become shorter where the training is short. The data sets are
    registered; a training of no iterations is a ConfigError.
    """
    solver = cfg.SOLVER
    if solver.EPOCHS > 0:
        epoch = sum(map(num_images, cfg.DATASETS.TRAIN)) / max(1, solver.IMS_PER_BATCH)
        solver.MAX_ITER = solver.MAX_ITER or max(1, round(solver.EPOCHS * epoch))
        solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, solver.MAX_ITER // WARMUP_SHARE)
        period = math.ceil(max(epoch, solver.MAX_ITER / NUM_LOOKS))
        solver.CHECKPOINT_PERIOD = min(solver.CHECKPOINT_PERIOD, period)
        cfg.TEST.EVAL_PERIOD = min(cfg.TEST.EVAL_PERIOD, period)
    if solver.MAX_ITER <= 0 or solver.EPOCHS < 0:
        raise ConfigError(
            f"SOLVER.MAX_ITER is {solver.MAX_ITER} and SOLVER.EPOCHS {solver.EPOCHS}: give a "
            "number of iterations, or 0 and how often the images are gone through."
        )


def num_images(dataset_name: str) -> int:
    """Count the images of a registered data set."""
    known = MetadataCatalog.get(dataset_name).get("num_images")
    return len(DatasetCatalog.get(dataset_name)) if known is None else known
