"""Histograms of a data set's boxes, and of the levels and bins they fall into."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .borders import BorderCounts

BLUE, ORANGE = "#0072b2", "#d55e00"


def plot_boxes(counts: BorderCounts, path: Path) -> None:
    """Draw four histograms into one picture: sizes, aspect ratios, levels, bins of each level."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    width, height = np.maximum(counts.sizes, 1e-3).T
    _plot_log2(axes[0, 0], np.sqrt(width * height), counts.is_missed, "side")
    axes[0, 0].set_xlabel("square root of the area (px of the network input)")
    _plot_log2(axes[0, 1], width / height, counts.is_missed, "aspect")
    axes[0, 1].set_xlabel("width over height")
    _plot_levels(axes[1, 0], counts)
    _plot_bins(axes[1, 1], counts)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _plot_log2(axis: Axes, values: np.ndarray, is_missed: np.ndarray, what: str) -> None:
    lowest, highest = (0, 10) if what == "side" else (-3, 3)
    if len(values):
        lowest = min(lowest, np.floor(np.log2(values.min())))
        highest = max(highest, np.ceil(np.log2(values.max())))
    edges = 2.0 ** np.arange(lowest, highest + 0.25, 0.25)
    groups, labels = [values[~is_missed], values[is_missed]], ["with a location", "without any"]
    axis.hist(groups, edges, stacked=True, color=[BLUE, ORANGE], label=labels)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:g}")
    axis.set_ylabel("boxes")
    axis.legend(frameon=False)


def _plot_levels(axis: Axes, counts: BorderCounts) -> None:
    bars = axis.bar(counts.levels, counts.positives, color=BLUE)
    axis.bar_label(bars, [f"{x}" for x in counts.positives], fontsize=8)
    axis.set_ylabel("positive locations")
    axis.set_title("levels whose locations qualify for a box", fontsize=10)


def _plot_bins(axis: Axes, counts: BorderCounts) -> None:
    """Draw the share of a level's borders in each bin, with the nominal edges of the bin."""
    totals = np.maximum(counts.bins.sum(1, keepdims=True), 1)
    shares = 100 * counts.bins / totals
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        low, high = counts.edges[i, j : j + 2]
        text = f"{share:.0f} %\n{low:g}–{high:g} px"
        color = "white" if share > 60 else "0.2"
        axis.text(j, i, text, ha="center", va="center", fontsize=7.5, color=color)
    axis.set_xticks(range(shares.shape[1]), [f"bin {n + 1}" for n in range(shares.shape[1])])
    axis.set_yticks(range(len(shares)), counts.levels)
    axis.set_title("borders in each bin (the outer ones are open)", fontsize=10)
