"""Are the right bins chosen, how well are borders decoded, and what does a wrong choice cost?"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..modeling import ScopeNet
from .borders import DIRECTIONS
from .page import Block, Figure, Section, Table, number
from .plots import BLUE, ORANGE, draw_matrix, figure_uri, new_figure
from .run import Run

TITLE = "Are the right bins chosen?"
Measure = Callable[[pd.DataFrame], dict[str, float]]
DIRECTION_NAMES = dict(zip(DIRECTIONS, ("left", "top", "right", "bottom"), strict=True))


def why_no_bins(run: Run) -> str:
    """Say why nothing can be told about bins; "" if it can."""
    if not isinstance(run.model, ScopeNet):
        return f"Left out: {run.name} is a {type(run.model).__name__}, which has no bins."
    if run.model.num_bins == 1:
        return f"Left out: {run.name} has one bin per direction (N = 1), so that p_loc is always 1."
    if run.borders.empty:
        return "Left out: no location of these images is a positive of label assignment."
    return ""


def confusion(borders: pd.DataFrame, num_bins: int) -> np.ndarray:
    """Count borders by true bin (row) and most probable bin (column), (N, N)."""
    return np.histogram2d(borders.bin, borders.best_bin, np.arange(num_bins + 1))[0].astype(int)


def measure_groups(table: pd.DataFrame, by: str, measure: Measure, **others) -> pd.DataFrame:
    """Measure the parts of a table that agree in a column, then all of it ("all"), then others."""
    groups = {**dict(iter(table.groupby(by))), "all": table, **others}
    return pd.DataFrame.from_dict({k: measure(x) for k, x in groups.items()}, orient="index")


def border_figures(borders: pd.DataFrame, by: str) -> pd.DataFrame:
    """Measure by "level" or "direction", and over "all":

    - "borders": how many;
    - "bin accuracy": share, in percent, whose most probable bin is the true one;
    - "off by > 1 bin": share whose most probable bin is not even next to it;
    - "decoded elsewhere": share whose decoded distance lies outside the bin it was decoded from,
      for the most probable and for the true bin;
    - "error": median of the absolute error in px of the network input, likewise.
    """

    def measure(x: pd.DataFrame) -> dict[str, float]:
        return {
            "borders": len(x),
            "bin accuracy": (x.best_bin == x.bin).mean() * 100,
            "off by > 1 bin": ((x.best_bin - x.bin).abs() > 1).mean() * 100,
            "decoded elsewhere": (x.decoded_best_bin != x.best_bin).mean() * 100,
            "decoded elsewhere, true bin": (x.decoded_bin != x.bin).mean() * 100,
            "error": (x.from_best_bin - x.distance).abs().median(),
            "error, true bin": (x.from_bin - x.distance).abs().median(),
        }

    return measure_groups(borders, by, measure)


def iou_figures(positives: pd.DataFrame) -> pd.DataFrame:
    """Measure by level, and over "all": "positives", mean "IoU, true bins" and "IoU, chosen bins"
    of the decoded boxes with their ground truth, and the "gap" between them, which is what choosing
    bins costs; in percent."""

    def measure(x: pd.DataFrame) -> dict[str, float]:
        true, chosen = 100 * x.iou_bin.mean(), 100 * x.iou_best_bin.mean()
        ious = {"IoU, true bins": true, "IoU, chosen bins": chosen, "gap": true - chosen}
        return {"positives": len(x)} | ious

    return measure_groups(positives, "level", measure)


def bin_names(model: ScopeNet, level: int) -> list[str]:
    """Name the bins of a level by their ranges in px, of which the outer ones are open."""
    if model.num_bins == 1:
        return ["all"]
    edges = [f"{x:g}" for x in model.bin_edges[level].tolist()]
    inner = [f"{low}–{high}" for low, high in pairwise(edges[1:-1])]
    return [f"< {edges[1]}", *inner, f"≥ {edges[-2]}"]


def _confusion_figure(run: Run) -> Figure:
    levels = run.borders.groupby("level")
    figure, axes = new_figure(len(levels), 4, height=2.15 * len(levels) + 0.5, sharex="row")
    for row, (level, of_level) in zip(axes, levels, strict=True):
        names = bin_names(run.model, level)
        for axis, direction in zip(row, DIRECTIONS, strict=True):
            counts = confusion(of_level[of_level.direction == direction], len(names))
            draw_matrix(axis, counts, (names, names))
            axis.tick_params(labelsize=7)
            axis.set_title(f"{run.model.head_in_features[level]}, {DIRECTION_NAMES[direction]}")
        row[0].set_ylabel("true bin (px)")
    for axis in axes[-1]:
        axis.set_xlabel("chosen bin (px)")
    caption = (
        "Confusion of bins, by level and direction, in percent of each true bin (a dot: less than "
        "half a percent; a blank: none). Bins are ranges of the distance from location to border, "
        f"in px of the network input. {len(run.borders)} borders of {len(run.positives)} positives."
    )
    return Figure(figure_uri(figure), caption, "Confusion matrices of bins")


def _draw_errors(axis: Axes, borders: pd.DataFrame, names: list[str]) -> None:
    by_bin = [borders[borders.bin == n] for n in range(len(names))]
    places = np.arange(len(names))
    thin = {"linewidth": 0.8}
    style: Any = {"widths": 0.3, "whis": (5, 95), "showfliers": False, "manage_ticks": False}
    style |= {"medianprops": {"color": "black"}, "whiskerprops": thin, "capprops": thin}
    for column, shift, color, label in (
        ("from_bin", -0.18, BLUE, "from the true bin"),
        ("from_best_bin", 0.18, ORANGE, "from the chosen bin"),
    ):
        errors = [x[column] - x.distance for x in by_bin]
        box = {"facecolor": color, "alpha": 0.55, "linewidth": 0.6}
        axis.boxplot(errors, positions=places + shift, patch_artist=True, boxprops=box, **style)
        axis.bar(0, 0, color=color, alpha=0.55, label=label)  # for the legend
    axis.set_xticks(places, [f"{name}\nn={len(x)}" for name, x in zip(names, by_bin, strict=True)])
    axis.tick_params(labelsize=7.5)
    axis.set(xlabel="true bin (px)", ylabel="error (px)")
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.grid(axis="x", visible=False)


def _error_figure(run: Run) -> Figure:
    levels = run.borders.groupby("level")
    rows, columns = -(-len(levels) // 2), min(2, len(levels))
    figure, axes = new_figure(rows, columns, width=4.6 * columns, height=2.8 * rows)
    for axis in axes.flat[len(levels) :]:
        axis.set_visible(False)
    for axis, (level, of_level) in zip(axes.flat, levels, strict=False):
        _draw_errors(axis, of_level, bin_names(run.model, level))
        axis.set_title(run.model.head_in_features[level])
    axes[0, 0].legend(loc="best", fontsize=7.5)
    caption = (
        "Decoded minus true distance in px of the network input, by level and true bin: boxes are "
        "the middle half of the n borders, whiskers reach from the 5th to the 95th percentile."
    )
    return Figure(figure_uri(figure), caption, "Box plots of the error of borders")


def section(runs: list[Run]) -> Section:
    """Show bin accuracy and confusion, errors in px, the gap between true and chosen bins."""
    run = runs[0]
    if missing := why_no_bins(run):
        return Section("bins", TITLE, missing=missing)
    text = [
        "At the positives of label assignment (all locations that are trained to find a border, "
        "of the validation images in their test size) the true bin of each of the four borders is "
        "known. A border is decoded from the most probable bin; what it would be from the true "
        "one shows how much of the error is due to the choice."
    ]
    ious = iou_figures(run.positives)
    by_level = border_figures(run.borders, "level")
    by_direction = border_figures(run.borders, "direction")
    by_direction = by_direction.loc[list(DIRECTIONS)].rename(index=DIRECTION_NAMES)
    gap = (
        "Mean IoU in percent of the ground truth with the box decoded from the four true bins and "
        "with that from the four chosen ones; the gap is what choosing bins costs."
    )
    figures = (
        "Bin accuracy, and how often the chosen bin is not even next to the true one; how often "
        "the decoded border lies in another bin than the one it was decoded from, for the chosen "
        "and for the true bin (all in percent of the borders); median absolute error in px of the "
        "network input, decoded from the chosen and from the true bin."
    )
    levels = dict(enumerate(run.model.head_in_features))
    digits = {"error": 2, "error, true bin": 2}
    blocks: list[Block] = [
        Table(ious.rename(index=levels), gap, "level"),
        Table(by_level.rename(index=levels), figures, "level", digits),
        Table(by_direction, "The same by direction.", "direction", digits),
        _confusion_figure(run),
        _error_figure(run),
    ]
    headlines = [
        (number(by_level["bin accuracy"]["all"]), "bin accuracy", "percent of borders"),
        (number(ious.gap["all"]), "IoU lost by choosing bins", "points"),
    ]
    return Section("bins", TITLE, text, blocks, headlines=headlines)
