"""Figures drawn from a results file."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from .report import Row, by_seed, rows_of
from .statistics import estimate

COLORS = {"AP": "#1b6ca8", "AP75": "#c8553d"}


def label(row: Row, usual: int) -> str:
    config, iterations = row
    name = config.removeprefix("paper/")
    return name if iterations == usual else f"{name} ({iterations} iterations)"


def plot_results(results: pd.DataFrame, configs: Sequence[str], path: Path, title: str) -> None:
    """Every run as a dot, every config as its mean and 95 % interval, for AP and AP75.

    Args:
        results: rows of one data set.
        configs: which ones, from top to bottom.
    """
    rows = rows_of(results, configs)
    usual = int(results["iterations"].mode().min())
    figure = Figure(figsize=(9, 1.3 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (metric, color) in zip(axes, COLORS.items(), strict=True):
        for place, row in enumerate(rows):
            values = by_seed(results, row, metric).dropna()
            mean, half_width, count = estimate(values)
            axis.plot(values, [place] * count, "o", color=color, alpha=0.35, markersize=4)
            axis.errorbar(mean, place, xerr=half_width, fmt="|", color=color, capsize=3)
        axis.set_xlabel(f"{metric} (%): seeds, mean, 95 % interval")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(rows)), [label(row, usual) for row in rows])
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)
