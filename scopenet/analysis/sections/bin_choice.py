"""Bins: how often the right one is chosen, and what a wrong one costs."""

import numpy as np
import pandas as pd

from ..bin_quality import border_figures, confusion, iou_figures
from ..borders import DIRECTIONS
from ..page import Figure, Section, Table, make_table
from ..plots import BLUE, ORANGE, draw_matrix, figure_uri, new_figure
from ..run import Bins
from ..study import Study
from .without_bins import why_no_bins

TITLE = "Are the right bins chosen?"
DIRECTION_NAMES = dict(zip(DIRECTIONS, ("left", "top", "right", "bottom"), strict=True))


def bin_name(edges: np.ndarray, n: int) -> str:
    """The range of bin n in px, the outer bins being open; edges (N+1,)."""
    if n == 0:
        return f"< {edges[1]:g}"
    if n == len(edges) - 2:
        return f"≥ {edges[n]:g}"
    return f"{edges[n]:g}–{edges[n + 1]:g}"


def used_levels(bins: Bins) -> list[int]:
    return sorted(bins.borders.level.unique())


def named_levels(frame: pd.DataFrame, bins: Bins) -> pd.DataFrame:
    """``frame`` with the names of the levels as its index."""
    return frame.rename(index=lambda x: x if isinstance(x, str) else bins.level_names[x])


def _confusion_figure(bins: Bins) -> Figure:
    levels = used_levels(bins)
    figure, axes = new_figure(len(levels), 4, height=2.15 * len(levels) + 0.5, sharex="row")
    for row, level in zip(axes, levels, strict=True):
        names = [bin_name(bins.edges[level].numpy(), n) for n in range(bins.num_bins)]
        of_level = bins.borders[bins.borders.level == level]
        for axis, direction in zip(row, DIRECTIONS, strict=True):
            counts = confusion(of_level[of_level.direction == direction], bins.num_bins)
            draw_matrix(axis, counts, labels=names)
            axis.tick_params(labelsize=7)
            axis.set_title(f"{bins.level_names[level]}, {DIRECTION_NAMES[direction]}")
        row[0].set_ylabel("true bin (px)")
    for axis in axes[-1]:
        axis.set_xlabel("chosen bin (px)")
    return Figure(
        figure_uri(figure),
        "Confusion of bins, by level and direction, in percent of each true bin (a dot: less than "
        "half a percent; a blank: none). Bins are ranges of the distance from the location to the "
        f"border, in px of the network input. {len(bins.borders)} borders of "
        f"{len(bins.positives)} positives.",
        "Confusion matrices of bins",
    )


def _boxes(axis, groups: list[np.ndarray], places: np.ndarray, color: str, label: str) -> None:
    axis.boxplot(
        groups,
        positions=places,
        widths=0.3,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": color, "alpha": 0.55, "linewidth": 0.6},
        medianprops={"color": "black"},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0.8},
    )
    axis.bar(0, 0, color=color, alpha=0.55, label=label)


def _error_axis(axis, bins: Bins, level: int) -> None:
    of_level = bins.borders[bins.borders.level == level]
    by_bin = [of_level[of_level.bin == n] for n in range(bins.num_bins)]
    places = np.arange(bins.num_bins)
    for column, shift, color, label in (
        ("from_bin", -0.18, BLUE, "from the true bin"),
        ("from_best_bin", 0.18, ORANGE, "from the chosen bin"),
    ):
        _boxes(axis, [x[column] - x.distance for x in by_bin], places + shift, color, label)
    names = [bin_name(bins.edges[level].numpy(), n) for n in places]
    labels = [f"{name}\nn={len(x)}" for name, x in zip(names, by_bin, strict=True)]
    axis.set_xticks(places, labels)
    axis.tick_params(labelsize=7.5)
    axis.set(title=bins.level_names[level], xlabel="true bin (px)", ylabel="error (px)")
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.grid(axis="x", visible=False)


def _error_figure(bins: Bins) -> Figure:
    levels = used_levels(bins)
    rows = -(-len(levels) // 2)
    columns = min(2, len(levels))
    figure, axes = new_figure(rows, columns, width=4.6 * columns, height=2.8 * rows)
    for axis in axes.flat[len(levels) :]:
        axis.set_visible(False)
    for axis, level in zip(axes.flat, levels, strict=False):
        _error_axis(axis, bins, level)
    axes[0, 0].legend(loc="best", fontsize=7.5)
    return Figure(
        figure_uri(figure),
        "Decoded minus true distance in px of the network input, by level and true bin: boxes are "
        "the middle half of the borders, whiskers reach from the 5th to the 95th percentile; n is "
        "the number of borders.",
        "Box plots of the error of borders",
    )


def _tables(bins: Bins) -> list[Table]:
    by_level = border_figures(bins.borders, "level")
    by_direction = border_figures(bins.borders, "direction")
    by_direction = by_direction.loc[list(DIRECTIONS)].rename(index=DIRECTION_NAMES)
    explanation = (
        "Bin accuracy, and how often the chosen bin is not even next to the true one; how often "
        "the decoded border lies in another bin than the one it was decoded from, for the chosen "
        "and for the true bin (all in percent of the borders); median absolute error in px of the "
        "network input, decoded from the chosen and from the true bin."
    )
    digits = {"borders": 0, "error": 2, "error, true bin": 2}
    return [
        make_table(
            named_levels(iou_figures(bins.positives), bins),
            "Mean IoU in percent of the ground truth with the box decoded from the four "
            "true bins and with that from the four chosen ones; the gap is what choosing "
            "bins costs.",
            name="level",
            digits={"positives": 0},
        ),  # fmt: skip
        make_table(named_levels(by_level, bins), explanation, name="level", digits=digits),
        make_table(by_direction, "The same by direction.", name="direction", digits=digits),
    ]


def section(study: Study) -> Section:
    """Bin accuracy and confusion, errors in px, the gap between true and chosen bins."""
    text = [
        "At the positives of label assignment (all locations that are trained to find a border, "
        "of the validation images in their test size) the true bin of each of the four borders is "
        "known. A border is decoded from the most probable bin; what it would be from the true "
        "one shows how much of the error is due to the choice."
    ]
    missing = why_no_bins(study.main.run)
    if missing:
        return Section("bins", TITLE, [], missing=missing)
    bins = study.main.run.bins
    blocks = [*_tables(bins), _confusion_figure(bins), _error_figure(bins)]
    return Section("bins", TITLE, text, blocks)
