"""Iterations whose loss or gradient is infinite or NaN are noted down and skipped."""

import json
import logging
import math
from pathlib import Path

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn

from ...atomic import write_file
from ...errors import ConfigError
from .workers import any_worker

FOLDER = "non_finite"  # below OUTPUT_DIR


class StepSkipped(Exception):
    """Leaves an iteration before its metrics and its update."""


class NonFiniteGuard(HookBase):
    """Raises :class:`StepSkipped` in all workers if the loss or a gradient of one of them is not
    finite; a hook of the trainer that runs single iterations."""

    def __init__(self, output_dir: str, max_in_a_row: int, batch_size: int):
        """Allow ``max_in_a_row`` skipped iterations; ``batch_size``, over all workers, is for the
        advice after more."""
        self.folder = Path(output_dir) / FOLDER
        self.max_in_a_row, self.batch_size = max_in_a_row, batch_size
        self.in_a_row = self.skipped = 0
        self._forget_iteration()

    def _forget_iteration(self) -> None:
        self.batch: list[dict] = []
        self.losses: dict[str, Tensor] = {}

    def watch(self, model: nn.Module) -> None:
        """Remember what goes through the model in an iteration, at once or in parts, and the
        statistics that it changes."""
        self.model = model
        model.register_forward_pre_hook(self._before_forward)
        model.register_forward_hook(self._after_forward)

    def _before_forward(self, model: nn.Module, inputs: tuple) -> None:
        # Running statistics take in a batch in the forward pass, before its loss is known.
        if model.training and not self.batch:
            modules = (x for x in model.modules() if getattr(x, "track_running_stats", False))
            self.statistics = [(x, x.clone()) for m in modules for x in m.buffers(recurse=False)]

    def _after_forward(self, model: nn.Module, inputs: tuple, outputs: dict) -> None:
        if model.training:
            self.batch = self.batch + inputs[0]
            self.losses = {k: x.detach() + self.losses.get(k, 0) for k, x in outputs.items()}

    def after_backward(self) -> None:
        try:
            self._look_at_iteration()
        finally:
            self._forget_iteration()

    def _look_at_iteration(self) -> None:
        gradients = self._watched_gradients()
        # Together, so that a GPU is waited for once only.
        values = [*self.losses.values(), *(x.norm() for x in gradients.values())]
        values = torch.stack([x.float() for x in values]).tolist()
        losses = dict(zip(self.losses, values, strict=False))
        bad_losses = [name for name, value in losses.items() if not math.isfinite(value)]
        # A norm may overflow of a gradient that is finite.
        bad_gradients = [
            name
            for name, norm in zip(gradients, values[len(losses) :], strict=True)
            if not math.isfinite(norm) and not gradients[name].isfinite().all()
        ]
        if not any_worker(bool(bad_losses or bad_gradients)):
            self.in_a_row = 0
            return
        for statistic, before in self.statistics:
            statistic.copy_(before)
        self._note_down(losses, bad_losses, bad_gradients)
        self.in_a_row += 1
        self.skipped += 1
        logging.getLogger(__name__).warning(
            f"Iteration {self.trainer.iter} skipped: loss or gradient not finite, see "
            f"{self.folder} ({self.in_a_row} in a row, {self.skipped} since the start)."
        )
        if self.in_a_row > self.max_in_a_row:
            comm.synchronize()  # whoever ends first makes the launcher end the others
            raise ConfigError(self._diagnosis())
        raise StepSkipped

    def _watched_gradients(self) -> dict[str, Tensor]:
        """List the gradients that must be finite. Under loss scaling infinite ones are part of the
        search for the scale and skipped by the scaler, until there is nothing left to scale."""
        scaler = getattr(self.trainer, "grad_scaler", None)
        if scaler is not None and scaler.get_scale() > 1:
            return {}
        parameters = self.model.named_parameters()
        return {name: x.grad for name, x in parameters if x.grad is not None}

    def _learning_rate(self) -> float:
        return max(group["lr"] for group in self.trainer.optimizer.param_groups)

    def _note_down(
        self, losses: dict[str, float], bad_losses: list[str], bad_gradients: list[str]
    ) -> None:
        note = {
            "iteration": self.trainer.iter,
            "learning_rate": self._learning_rate(),
            "losses": {name: str(value) for name, value in losses.items()},  # JSON has no NaN
            "not_finite": {"losses": bad_losses, "gradients": bad_gradients},
            "images": [{k: x.get(k) for k in ("file_name", "image_id")} for x in self.batch],
        }
        content = json.dumps(note, indent=2).encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"iteration_{self.trainer.iter:07d}_worker_{comm.get_rank()}.json"
        write_file(self.folder / name, lambda f: f.write(content))

    def _diagnosis(self) -> str:
        weights = self.model.parameters()
        if not all(bool(x.isfinite().all()) for x in weights):
            cause = "the weights themselves are not finite: go on from an earlier checkpoint"
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

    def state_dict(self) -> dict[str, int]:
        return {"in_a_row": self.in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.in_a_row, self.skipped = state_dict["in_a_row"], state_dict["skipped"]
