"""What the screen shows of a training: a short summary instead of all that goes to the log file,
then the time and memory that it takes."""

import logging
import sys
import time
from datetime import timedelta

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from .environment import peak_memory

MOST_CLASSES = 8  # that are named
TIMED = (1, 4)  # the steps of this process between which the time is taken; the first one is slow


class ShortScreen(logging.Filter):
    """Keeps from the screen what other packages log while ``is_short``: environment, config, model,
    the weights that are and are not in a file."""

    is_short = True

    def filter(self, record: logging.LogRecord) -> bool:
        if not self.is_short or record.name.partition(".")[0] == "scopenet":
            return True
        return record.levelno >= logging.WARNING and not record.name.startswith("fvcore")


def start_logs(output_dir: str) -> ShortScreen:
    """Send logs to the file in ``output_dir`` and, of the main process, to the screen, as
    Detectron2's ``default_setup`` does, which then finds it done; the screen is short."""
    rank, screen = comm.get_rank(), ShortScreen()
    loggers = [
        setup_logger(output_dir, distributed_rank=rank, name="fvcore"),
        setup_logger(output_dir, distributed_rank=rank),
    ]
    if not logging.getLogger("scopenet").handlers:
        setup_logger(output_dir, rank, name="scopenet", enable_propagation=True)
    for logger in (*loggers, logging.getLogger("scopenet")):
        for handler in logger.handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.addFilter(screen)
    return screen


class Summary(HookBase):
    """Logs what a training is going to do, and after a few iterations what it takes; the screen is
    short until then."""

    def __init__(self, screen: ShortScreen):
        self.screen, self.steps, self.started = screen, 0, 0.0

    def before_train(self) -> None:
        for line in self._lines():
            logging.getLogger(__name__).info(line)
        warmup, length = self._warmup(), self.trainer.max_iter
        if warmup is not None and 2 * warmup > length:
            logging.getLogger(__name__).warning(
                f"The warm-up takes {warmup} of {length} iterations, and the learning rate is low "
                "in it; set SOLVER.WARMUP_ITERS to a tenth of them."
            )
        self.screen.is_short = False

    def _warmup(self) -> int | None:
        """Return the iterations of the warm-up; None of a LazyConfig, which schedules itself."""
        cfg = self.trainer.cfg
        is_yaml = isinstance(self.trainer.source_config(cfg), CfgNode)
        return cfg.SOLVER.WARMUP_ITERS if is_yaml else None

    def _lines(self) -> list[str]:
        cfg, trainer = self.trainer.cfg, self.trainer
        images, batch = len(trainer.data_loader.dataset), cfg.SOLVER.IMS_PER_BATCH
        classes = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes", [])
        named = ", ".join(classes[:MOST_CLASSES]) + ", ..." * (len(classes) > MOST_CLASSES)
        rate = max(group["initial_lr"] for group in trainer.optimizer.param_groups)
        warmup = "" if self._warmup() is None else f" after a warm-up of {self._warmup()}"
        workers = comm.get_world_size()
        evaluation = "no evaluation, as there is no test set"
        if cfg.DATASETS.TEST:
            period = cfg.TEST.EVAL_PERIOD
            when = f"every {period} iterations and " if 0 < period < trainer.max_iter else ""
            evaluation = f"evaluation {when}at the end, on {', '.join(cfg.DATASETS.TEST)}"
        return [
            f"{images} images to train on; {len(classes)} classes: {named}.",
            f"{trainer.max_iter} iterations of {batch} images, each of them seen "
            f"{trainer.max_iter * batch / images:.3g} times, by {workers} worker"
            f"{'s' * (workers != 1)} on {cfg.MODEL.DEVICE}.",
            f"Learning rate up to {rate:g}{warmup}; {evaluation}.",
            f"Everything is in {cfg.OUTPUT_DIR}: log.txt has the config and the model, too.",
        ]

    def after_step(self) -> None:
        self.steps += 1
        if self.steps == TIMED[0]:
            self.started = time.perf_counter()
        elif self.steps == TIMED[1]:
            seconds = (time.perf_counter() - self.started) / (TIMED[1] - TIMED[0])
            left = self.trainer.max_iter - self.trainer.iter - 1
            device = self.trainer.cfg.MODEL.DEVICE
            logging.getLogger(__name__).info(
                f"{seconds:.2g} s an iteration: the other {left} take about "
                f"{timedelta(seconds=round(left * seconds))} without evaluations; "
                f"{peak_memory(device) / 1e9:.1f} GB of "
                f"{'GPU ' * device.startswith('cuda')}memory."
            )
