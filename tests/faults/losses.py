"""A file with the exact losses of every iteration, in the order in which they were computed."""

import json
from pathlib import Path

import torch

Losses = dict[str, str]  # by name; the exact numbers in hexadecimal


def add_losses(path: Path | str, iteration: int, losses: dict[str, torch.Tensor]) -> None:
    with open(path, "a") as f:
        f.write(json.dumps([iteration, {k: x.item().hex() for k, x in losses.items()}]) + "\n")


def read_losses(path: Path) -> list[tuple[int, Losses]]:
    """(iteration, losses); none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(json.loads(x)) for x in lines]
