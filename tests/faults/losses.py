"""A file with the exact losses of every iteration, in the order in which they were computed."""

import json
import random
from pathlib import Path

import numpy as np
import torch

Losses = dict[str, str]  # by name; the exact numbers in hexadecimal


def add_losses(path: Path | str, iteration: int, losses: dict[str, torch.Tensor]) -> None:
    """And random numbers, which a model with dropout would take, as if they were losses."""
    drawn = {"torch": torch.rand(1).item(), "numpy": np.random.rand(), "python": random.random()}
    numbers = {k: x.item() for k, x in losses.items()} | drawn
    with open(path, "a") as f:
        f.write(json.dumps([iteration, {k: float(x).hex() for k, x in numbers.items()}]) + "\n")


def read_losses(path: Path) -> list[tuple[int, Losses]]:
    """(iteration, losses); none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(json.loads(x)) for x in lines]
