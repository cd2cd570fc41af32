"""The states of the global random generators, kept in checkpoints and over evaluations."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def rng_states() -> dict[str, Any]:
    """Return the states of the global random generators, as tensors and plain types."""
    state: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = state
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(words), next_gauss],
    }


def restore_rng_states(states: dict[str, Any]) -> None:
    """Set the states of :func:`rng_states`; those of CUDA only where the devices are as many."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, words, next_gauss = states["python"]
    random.setstate((version, tuple(words), next_gauss))


@contextmanager
def kept_rng_states() -> Iterator[None]:
    """Restore the random states after an evaluation: a training that goes on from the checkpoint of
    the same iteration, which is written before it, does not evaluate again."""
    states = rng_states()
    yield
    restore_rng_states(states)
