"""Iterations whose batch goes through the model in parts, which takes a part of the memory; the
gradient is that of the whole batch."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError


class MicroBatches:
    """Stands in for the model in a step of Detectron2's trainers.

    A call goes forward with every part of the batch, and back with all but the last, whose way back
    is the trainer's. The losses returned have the value of all parts together and the gradient of
    the last.
    """

    training = True  # as Detectron2's trainers assert

    def __init__(self, model: nn.Module, number: int, scale: Callable[[Tensor], Tensor]):
        self.model: Any = model
        self.number, self.scale = number, scale
        self.is_distributed = isinstance(model, DistributedDataParallel)

    def __call__(self, batch: list[dict]) -> dict[str, Tensor]:
        detector: Any = self.model.module if self.is_distributed else self.model
        joint = detector.joint_batch(batch)
        size = len(batch) // self.number
        *others, last = (batch[i : i + size] for i in range(0, len(batch), size))
        totals: dict[str, Tensor] = {}
        for part in others:
            # Workers exchange the sum of all parts' gradients, once.
            with self.model.no_sync() if self.is_distributed else nullcontext():
                losses = self.model(part, joint)
                with torch.autocast(detector.device.type, enabled=False):
                    self.scale(sum(losses.values())).backward()
            totals = {k: x.detach() + totals.get(k, 0) for k, x in losses.items()}
        return {k: x + totals[k] for k, x in self.model(last, joint).items()}


class InMicroBatches:
    """Makes one of Detectron2's step trainers take each of its batches in parts."""

    num_parts = 1
    model: Any

    def run_step(self) -> None:
        if self.num_parts == 1:
            super().run_step()  # type: ignore[misc]
            return
        model, scaler = self.model, getattr(self, "grad_scaler", None)
        scale = scaler.scale if scaler else lambda loss: loss
        self.model = MicroBatches(model, self.num_parts, scale)
        try:
            super().run_step()  # type: ignore[misc]
        finally:
            self.model = model

    def accumulate(self, number: int, batch_size: int) -> None:
        """Take each batch in ``number`` parts; raise a ConfigError if the model cannot or the
        images of a worker, which has its share of ``batch_size``, are no multiple of it."""
        num_workers, model = comm.get_world_size(), self.model
        detector = model.module if isinstance(model, DistributedDataParallel) else model
        if number < 1 or batch_size % (number * num_workers):
            raise ConfigError(
                f"SOLVER.ACCUMULATION {number} does not divide the {batch_size // num_workers} "
                "images that each worker has of SOLVER.IMS_PER_BATCH; give the number of parts in "
                "which they are to be taken."
            )
        if number > 1 and not hasattr(detector, "joint_batch"):
            raise ConfigError(
                f"SOLVER.ACCUMULATION is {number}, but the losses of {type(detector).__name__} "
                "are not those of its parts together, only ScopeNet's are; set it to 1."
            )
        self.num_parts = number
        self.zero_grad_before_forward = number > 1


class StepTrainer(InMicroBatches, SimpleTrainer):
    """Runs iterations in float32, or in what the model's own autocast makes of it."""


class MixedPrecisionStepTrainer(InMicroBatches, AMPTrainer):
    """Runs iterations in mixed precision on a GPU."""
