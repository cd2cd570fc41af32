"""Section 3.1's claim: near an edge between two bins the network hedges."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .bin_choice import measure_groups, why_no_bins
from .calibration import binned_mean, rank_correlation
from .page import Figure, Section, Table, number
from .plots import BLUE, GREEN, draw_cloud, figure_uri, new_figure
from .run import Run

TITLE = "Is the network less sure near an edge between bins?"
MAX_POINTS = 4000
MAX_DISTANCE = 1.5  # log2 px; further out lie only the far ends of the outer bins
NUM_INTERVALS = 15


def hedging(borders: pd.DataFrame, num_bins: int) -> pd.DataFrame:
    """Measure the rank correlation of the distance to the nearest bin edge with log sigma^2 and
    with the confidence of the chosen bin; by level, over "all", and over the "inner bins", as only
    the outer ones have borders far away from any edge, which differ in more than that.

    The paper's section 3.1 says that the network hedges near an edge: there sigma^2 is to be large
    and the confidence small, so the first should be negative and the second positive.
    """

    def measure(x: pd.DataFrame) -> dict[str, float]:
        columns = ("log_variance", "confidence")
        rho = {name: rank_correlation(x.edge_distance, x[name]) for name in columns}
        return {"borders": len(x)} | rho

    inner = borders[borders.bin.between(1, num_bins - 2)]
    return measure_groups(borders, "level", measure, **{"inner bins": inner})


def _draw(axis: Axes, borders: pd.DataFrame, column: str, color: str) -> None:
    shown = borders.sample(min(len(borders), MAX_POINTS), random_state=0)
    draw_cloud(axis, shown.edge_distance, shown[column], color)
    near = borders[borders.edge_distance <= MAX_DISTANCE]
    edges = np.linspace(0, MAX_DISTANCE, NUM_INTERVALS + 1)
    mean = binned_mean(near.edge_distance, near[column], edges)
    style: Any = {"marker": "o", "markersize": 4, "capsize": 2, "elinewidth": 0.8, "color": "black"}
    axis.errorbar(mean.x, mean["mean"], mean["std"], label="mean ± standard deviation", **style)
    axis.set_xlim(0, MAX_DISTANCE)
    axis.set_xlabel("distance of the true border to the nearest bin edge (log2 px)")


def _figure(borders: pd.DataFrame, uncertainty: bool) -> Figure:
    figure, axes = new_figure(1, 1 + uncertainty, width=4.8 * (1 + uncertainty), height=3.5)
    if uncertainty:
        _draw(axes[0, 0], borders, "log_variance", BLUE)
        axes[0, 0].set_ylabel("log σ²")
    _draw(axes[0, -1], borders, "confidence", GREEN)
    axes[0, -1].set(ylabel="probability of the chosen bin", ylim=(0, 1.02))
    axes[0, 0].legend(loc="best")
    what = "log σ² and the probability" if uncertainty else "The probability"
    caption = (
        f"{what} of the chosen bin against the distance of the true border to the nearest edge "
        "between two bins, in log2 px: 0 is on the edge, and in a bin of the default size 0.5 is "
        f"its middle; only borders in the outer bins lie further away. {len(borders)} borders, of "
        f"which {min(len(borders), MAX_POINTS)} are drawn; means are of all."
    )
    alt = "Uncertainty against the distance to the nearest bin edge"
    return Figure(figure_uri(figure), caption, alt)


def section(runs: list[Run]) -> Section:
    """Show log sigma^2 and confidence against the distance to the nearest bin edge."""
    run, model = runs[0], runs[0].model
    if missing := why_no_bins(run):
        return Section("hedging", TITLE, missing=missing)
    table = hedging(run.borders, model.num_bins)
    rho = table.loc["inner bins"]
    hedged = f"with log σ² {number(rho.log_variance, 2)} (negative if it hedges), and "
    text = [
        "A border that lies close to the edge between two bins could as well be in the one as in "
        "the other. The paper (section 3.1) says that the network then hedges, and adds σ², a "
        "temperature of the bin probabilities, to let it say so.",
        "In the inner bins the rank correlation of the distance to the nearest edge is "
        f"{hedged * model.uncertainty}with the probability of the chosen bin "
        f"{number(rho.confidence, 2)} (positive if it hedges).",
    ]
    if not model.uncertainty:
        text.append("This model is without σ² (UNCERTAINTY is off), so only probabilities follow.")
        table = table.drop(columns="log_variance")
    names = {"log_variance": "with log σ²", "confidence": "with the probability"}
    caption = (
        "Spearman's rank correlation of the distance to the nearest edge with log σ² and with the "
        "probability of the chosen bin; over all borders, and over those in the inner bins only. "
        "Borders of one object are not independent samples."
    )
    table = table.rename(columns=names, index=dict(enumerate(model.head_in_features)))
    digits = dict.fromkeys(names.values(), 3)
    figure = _figure(run.borders, model.uncertainty)
    return Section("hedging", TITLE, text, [figure, Table(table, caption, "level", digits)])
