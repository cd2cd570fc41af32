"""A running average of the weights beside the trained ones: what is evaluated and published."""

from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from ..errors import ConfigError


def decay_after(updates: int, most: float) -> float:
    """Return the share of the average in the next one: it looks back over the last ninth of the
    iterations so far, and at most over 1 / (1 - ``most``) iterations."""
    return min(most, (1 + updates) / (10 + updates))


class WeightAverage(AveragedModel):
    """Averages weights and running statistics exponentially, in ``module``, a copy of the model.

    The first update takes the weights as they are; counts of batches are always taken so.
    """

    def __init__(self, model: nn.Module, decay: float):
        """Copy ``model``; raise a ConfigError for a largest ``decay`` out of [0, 1)."""
        if not 0 <= decay < 1:
            raise ConfigError(
                f"SOLVER.EMA.DECAY is {decay}; give the largest share of the average that stays in "
                "an iteration, from 0 to below 1, e.g. 0.999."
            )
        super().__init__(model, multi_avg_fn=self._average, use_buffers=True)
        self.decay = decay

    def _average(self, averages: PARAM_LIST, values: PARAM_LIST, updates: Tensor | int) -> None:
        if not averages[0].is_floating_point():
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
            return
        # This one is on the CPU, so that no GPU is waited for.
        decay = decay_after(int(self.n_averaged), self.decay)
        get_ema_multi_avg_fn(decay)(averages, values, updates)
