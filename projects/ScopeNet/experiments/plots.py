"""Draw the figures of a results file."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .report import by_seed, difference, row_name, rows_of
from .statistics import estimate

COLORS = {"AP": "#1b6ca8", "AP75": "#c8553d"}


def draw_results(results: pd.DataFrame, configs: Sequence[str], title: str) -> Figure:
    """Draw AP and AP75 of every run and their means; beside them the differences to the first
    config, taken seed by seed, with their 95 % intervals.

    Args:
        results: rows of one data set.
        configs: which ones, from top to bottom.
    """
    rows = rows_of(results, configs)
    usual = set(results["iterations"].mode())
    figure = Figure(figsize=(11, 1.4 + 0.34 * len(rows)), layout="constrained")
    *of_runs, of_differences = figure.subplots(1, 3, sharey=True)
    for offset, axis, metric in zip((-0.12, 0.12), of_runs, COLORS, strict=True):
        for place, row in enumerate(rows):
            draw_runs(axis, place, by_seed(results, row, metric), COLORS[metric])
            if row != rows[0]:
                differences = difference(results, row, rows[0], metric)
                draw_estimate(of_differences, place + offset, differences, COLORS[metric])
        axis.set_xlabel(f"{metric} (%): every seed, and mean")
        of_differences.plot([], [], "o", color=COLORS[metric], label=metric, markersize=4)
    of_differences.axvline(0, color="black", linewidth=0.8)
    of_differences.set_xlabel("difference to the first row:\nmean and 95 % interval")
    of_differences.legend(loc="upper right", fontsize=8)
    for axis in (*of_runs, of_differences):
        axis.grid(axis="x", alpha=0.3)
    of_runs[0].set_yticks(range(len(rows)), [row_name(row, rows, usual) for row in rows])
    of_runs[0].invert_yaxis()
    figure.suptitle(title, fontsize=11)
    return figure


def draw_runs(axis: Axes, place: float, values: pd.Series, color: str) -> None:
    axis.plot(values, [place] * len(values), "o", color=color, alpha=0.4, markersize=4)
    axis.plot(values.mean(), place, "|", color=color, markersize=12, markeredgewidth=2)


def draw_estimate(axis: Axes, place: float, values: pd.Series, color: str) -> None:
    """Draw a mean and its interval; a single value has none."""
    mean, half_width, count = estimate(values)
    bar = half_width if count > 1 else None
    axis.errorbar(mean, place, xerr=bar, fmt="o", color=color, capsize=3, markersize=4)
