"""What is looked at on the validation images beside COCO's figures: the loss, a few pictures, which
checkpoint is the best so far, and whether it is worth going on."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from .checkpoint import SafeCheckpointer
from .reliability.checkpoint_file import is_sound
from .reliability.random_states import kept_rng_states
from .reliability.safe_files import load_tensors
from .reliability.workers import any_worker

NUM_PICTURES = 4  # at every evaluation
PICTURE_SIDE = 480  # px, of the longer side
SCORE_THRESH = 0.3  # of the drawn detections


class AtEvaluation(EvalHook):
    """Calls :meth:`look` whenever Detectron2's ``EvalHook`` of this period evaluates; all workers
    have these hooks and leave them together."""

    def __init__(self, period: int):
        super().__init__(period, self._look_aside)

    def _look_aside(self) -> None:
        with kept_rng_states():
            self.look()

    def look(self) -> None:
        raise NotImplementedError


@contextmanager
def evaluating(model: nn.Module):
    """Yield ``model`` without its DDP wrapper, in evaluation mode for a while, no gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model.module if isinstance(model, DistributedDataParallel) else model
    finally:
        model.train(was_training)


class ValidationLoss(AtEvaluation):
    """Logs the losses of the validation images, as "validation/cls", "validation/bin", ...

    Each batch has the size of a training batch and is divided by its own positives; the mean is
    over the images.
    """

    def __init__(self, period: int, loader: Callable[[], DataLoader]):
        super().__init__(period)
        self.loader = loader

    def look(self) -> None:
        totals: dict[str, float] = {}
        num_images = 0
        with evaluating(self.trainer.model) as model:
            if hasattr(model, "validation_losses"):  # one of Detectron2's own has none
                for batch in self.loader():
                    if labelled := [x for x in batch if "instances" in x]:
                        num_images += len(labelled)
                        for name, loss in model.validation_losses(labelled).items():
                            weighted = loss.item() * len(labelled)
                            totals[name] = totals.get(name, 0.0) + weighted
        self._log(comm.gather((totals, num_images)))

    def _log(self, shares: list[tuple[dict[str, float], int]]) -> None:
        """Log the means over each worker's sums of losses and number of images, which only the main
        process has."""
        num_images = sum(n for _, n in shares)
        if not num_images:
            return
        names = dict.fromkeys(name for totals, _ in shares for name in totals)
        means = {k: sum(x.get(k, 0.0) for x, _ in shares) / num_images for k in names}
        means["total"] = sum(means.values())
        # Detectron2's printer takes every name with "loss" in it for one of training.
        scalars = {f"validation/{k.removeprefix('loss_')}": v for k, v in means.items()}
        self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        parts = "  ".join(f"{name}: {value:.4g}" for name, value in means.items())
        logging.getLogger(__name__).info(f"Loss on {num_images} validation images: {parts}")


class DetectionPictures(AtEvaluation):
    """Puts pictures of ground truth and detections into TensorBoard, always of the same images."""

    def __init__(self, period: int, loader: Callable[[], DataLoader], dataset_name: str):
        super().__init__(period)
        self.loader, self.dataset_name = loader, dataset_name

    def look(self) -> None:
        if not comm.is_main_process():
            return
        # Only needed here: it brings matplotlib with it.
        from ..visualization import draw_beside_ground_truth

        dataset: Any = self.loader().dataset
        for i in spread(len(dataset), NUM_PICTURES):
            sample, dataset_dict = dataset[i], dataset.dicts[i]
            if "instances" not in sample:
                continue
            with evaluating(self.trainer.model) as model:
                (output,) = model([sample])
            longest = max(dataset_dict["height"], dataset_dict["width"])
            try:
                picture = draw_beside_ground_truth(
                    dataset_dict,
                    output["instances"],
                    self.dataset_name,
                    score_thresh=SCORE_THRESH,
                    scale=PICTURE_SIDE / longest,
                )
            except OSError:  # only the mapper knows how to read it, for instance in an archive
                continue
            name = f"validation/{os.path.basename(dataset_dict['file_name'])}"
            self.trainer.storage.put_image(name, np.moveaxis(picture, -1, 0))


def spread(size: int, number: int) -> list[int]:
    """Choose ``number`` indices spread evenly over 0 ... size - 1, or all."""
    return [i * size // min(size, number) for i in range(min(size, number))]


class BestCheckpoint(AtEvaluation):
    """Keeps the checkpoint with the highest value of a metric as ``model_best.pth``.

    Detectron2's ``BestCheckpointer`` forgets the best value on resume, so that the first evaluation
    afterwards overwrites a better checkpoint, and makes its file the one to resume from.
    """

    NAME = "model_best"

    def __init__(self, period: int, checkpointer: SafeCheckpointer, metric: str):
        super().__init__(period)
        self.checkpointer, self.metric = checkpointer, metric
        self.best, self.iteration = -math.inf, -1

    def before_train(self) -> None:
        path = Path(self.checkpointer.save_dir) / f"{self.NAME}.pth"
        if self.trainer.start_iter == 0 or not path.is_file():
            return
        if not is_sound(path):
            logging.getLogger(__name__).warning(
                f"{path} is damaged; the next evaluation makes a new one."
            )
            return
        best = load_tensors(str(path)).get("best", {})
        if best.get("metric") == self.metric:
            self.best, self.iteration = best["value"], best["iteration"]

    def look(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self.metric, (math.nan, 0))
        if value == 0 and self.best <= 0:
            logging.getLogger(__name__).info(f"{self.metric} is 0: no checkpoint is the best yet.")
        if not value > max(self.best, 0):
            return
        self.best, self.iteration = value, iteration
        best = {"metric": self.metric, "value": value, "iteration": iteration}
        self.checkpointer.save(self.NAME, best=best, iteration=self.trainer.iter)
        logging.getLogger(__name__).info(
            f"{self.metric} {value:.2f} is the best so far: kept as {self.NAME}.pth."
        )


class EarlyStopping(AtEvaluation):
    """Lets a training end when ``patience`` evaluations in a row were no better than the best one.

    To be behind :class:`BestCheckpoint`, whose file remembers the best over a resume. Before there
    is a best, nothing ends.
    """

    def __init__(self, period: int, best: BestCheckpoint, patience: int):
        super().__init__(period)
        self.best, self.iterations = best, patience * period

    def before_train(self) -> None:
        self._stop_if_over(self.trainer.start_iter - 1)

    def look(self) -> None:
        iteration = self.trainer.iter
        if iteration + 1 < self.trainer.max_iter and self._stop_if_over(iteration):
            self.best.checkpointer.save("model_final", iteration=iteration)

    def _stop_if_over(self, iteration: int) -> bool:
        """Make ``iteration`` the last one of all workers if it is time; the first one knows."""
        waited = iteration - self.best.iteration
        is_over = math.isfinite(self.best.best) and waited >= self.iterations
        if not any_worker(comm.is_main_process() and is_over):
            return False
        self.trainer.max_iter = iteration + 1
        logging.getLogger(__name__).warning(
            f"Stopped after iteration {iteration}: for {self.iterations} iterations or more "
            f"{self.best.metric} was not above {self.best.best:.2f}, its best, which is in "
            f"{self.best.NAME}.pth; to go on, raise TEST.EARLY_STOPPING and give --resume."
        )
        return True


def insert_validation(
    hooks: list[HookBase | None],
    *,
    period: int,
    names: Sequence[str],
    loader: Callable[[], DataLoader],
    checkpointer: SafeCheckpointer,
    patience: int = 0,
) -> list[HookBase | None]:
    """Put the hooks of this module behind the evaluation, which has this ``period``, and before
    what writes metrics.

    Args:
        names: the validation sets; the first one is looked at, by way of ``loader()``.
        patience: evaluations without a better AP after which training stops; 0 for no such end.
    """
    if not names:
        return hooks
    loader = cache(loader)
    metric = "bbox/AP" if len(names) == 1 else f"{names[0]}/bbox/AP"
    ours = [ValidationLoss(period, loader), DetectionPictures(period, loader, names[0])]
    if period > 0:
        ours.append(best := BestCheckpoint(period, checkpointer, metric))
        ours += [EarlyStopping(period, best, patience)] * (patience > 0)
    behind = 1 + next(i for i, hook in enumerate(hooks) if isinstance(hook, EvalHook))
    return [*hooks[:behind], *ours, *hooks[behind:]]
