"""Iterations whose loss or gradient is infinite or NaN: noted down, skipped, and not many of them.

Running statistics of BN layers, if any, have seen the skipped batch.
"""

import json
import logging
import math
from pathlib import Path

import torch
from detectron2.engine import AMPTrainer, HookBase
from detectron2.utils import comm

from ..atomic import write_file
from ..config_file import ConfigError
from .agreement import any_worker

FOLDER = "non_finite"  # below OUTPUT_DIR


class StepSkipped(Exception):
    """Leaves an iteration before its metrics and its update."""


class NonFiniteGuard(HookBase):
    """A hook of the trainer that runs single iterations; raises :class:`StepSkipped` in all workers
    if the loss or a gradient of one of them is not finite.

    Under loss scaling infinite gradients are part of the search for the scale and skipped by the
    scaler; only the loss counts then.
    """

    def __init__(self, output_dir: str, max_in_a_row: int, batch_size: int):
        """
        Args:
            max_in_a_row: iterations that may be skipped one after the other, >= 0.
            batch_size: images per iteration over all workers, for the advice.
        """
        self.folder = Path(output_dir) / FOLDER
        self.max_in_a_row, self.batch_size = max_in_a_row, batch_size
        self.in_a_row = self.skipped = 0

    def watch(self, model: torch.nn.Module) -> None:
        """Remember what goes through the model."""

        def remember(model, inputs, outputs):
            self.batch, self.losses = inputs[0], outputs

        model.register_forward_hook(remember)

    def after_backward(self) -> None:
        losses = {name: loss.item() for name, loss in self.losses.items()}
        finite = all(map(math.isfinite, losses.values())) and self._finite_gradients()
        if not finite:
            self._note_down(losses)
        if not any_worker(not finite):
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.skipped += 1
        logging.getLogger(__name__).warning(
            f"Iteration {self.trainer.iter} skipped: loss or gradient not finite, see "
            f"{self.folder} ({self.in_a_row} in a row, {self.skipped} since the start)."
        )
        if self.in_a_row > self.max_in_a_row:
            raise ConfigError(self._diagnosis())
        raise StepSkipped

    def _finite_gradients(self) -> bool:
        if isinstance(self.trainer, AMPTrainer):
            return True
        gradients = (x.grad for x in self.trainer.model.parameters() if x.grad is not None)
        norms = [gradient.norm() for gradient in gradients]
        return not norms or bool(torch.stack(norms).isfinite().all())

    def _learning_rate(self) -> float:
        return max(group["lr"] for group in self.trainer.optimizer.param_groups)

    def _note_down(self, losses: dict[str, float]) -> None:
        images = [{k: x.get(k) for k in ("file_name", "image_id")} for x in self.batch]
        note = {
            "iteration": self.trainer.iter,
            "learning_rate": self._learning_rate(),
            "losses": {name: str(value) for name, value in losses.items()},  # JSON has no NaN
            "images": images,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"iteration_{self.trainer.iter:07d}_worker_{comm.get_rank()}.json"
        write_file(self.folder / name, json.dumps(note, indent=2).encode())

    def _diagnosis(self) -> str:
        weights = (x for x in self.trainer.model.parameters())
        if not all(bool(x.isfinite().all()) for x in weights):
            cause = "the weights themselves are not finite: resume from an earlier checkpoint"
        else:
            cause = (
                f"the likely cause is a learning rate of {self._learning_rate():g} that is too "
                f"high for {self.batch_size} images per iteration (lower SOLVER.BASE_LR or warm up "
                "longer) or, if the same files come again, the data"
            )
        return (
            f"{self.in_a_row} iterations in a row had a loss or gradient that is not finite; "
            f"{cause}. The batches are listed in {self.folder}."
        )
