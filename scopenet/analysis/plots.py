"""The look of the page's figures, and figures as data URIs that an <img> shows."""

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# For rc_context, around all that draws.
STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.5",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "svg.hashsalt": "scopenet",  # the same figure gives the same file
}
# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
RUN_COLORS = (BLUE, ORANGE)
SCORE_COLORS = {"p_cls": BLUE, "p_loc": GREEN, "p_box": ORANGE, "score": BLUE}
SCORE_NAMES = {"p_cls": "$p_{cls}$", "p_loc": "$p_{loc}$", "p_box": "$p_{box}$", "score": "score"}


def new_figure(rows: int, columns: int, *, width: float = 9.0, height: float, **options):
    """Make a figure of ``width`` x ``height`` inches and its axes, (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def data_uri(kind: str, write: Callable[[io.BytesIO], None]) -> str:
    """Return an address that holds the picture, of the media type image/``kind``, that is written
    by ``write``."""
    buffer = io.BytesIO()
    write(buffer)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def figure_uri(figure: Figure) -> str:
    """Write the figure as SVG; what is marked as rasterized in it is a bitmap of 150 dpi."""
    write = partial(figure.savefig, format="svg", dpi=150, metadata={"Date": None})
    return data_uri("svg+xml", write)


def draw_cloud(axis: Axes, x: Sequence[float], y: Sequence[float], color: str) -> None:
    """Draw points that show how many of them lie on each other, as a bitmap in the figure."""
    axis.scatter(x, y, s=5, alpha=0.2, color=color, linewidths=0, rasterized=True)


def draw_matrix(axis: Axes, counts: np.ndarray, labels: Sequence[Sequence[str]] | None) -> None:
    """Draw counts (N, M) as shares of their row in percent: as colours and, where the rows and the
    columns have labels, as numbers."""
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    axis.grid(False)
    if labels is None:
        return
    for i, j in np.argwhere(counts):
        share = shares[i, j]
        text = f"{share:.0f}" if share >= 0.5 else "·"
        color = "white" if share > 60 else "0.2"
        axis.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    axis.set_yticks(range(len(counts)), labels[0])
    axis.set_xticks(range(counts.shape[1]), labels[1], rotation=45, ha="right")


def draw_bars(axis: Axes, values: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw the values of each row side by side, a bar per column (run) and nothing where there is
    none (NaN), with the values above them and the name of the row below."""
    width = 0.8 / values.shape[1]
    for i, ((run, heights), color) in enumerate(zip(values.items(), RUN_COLORS, strict=False)):
        places = np.arange(len(names)) + (i - (values.shape[1] - 1) / 2) * width
        bars = axis.bar(places, heights.fillna(0), width * 0.92, color=color, label=run)
        axis.bar_label(bars, ["" if np.isnan(x) else f"{x:.1f}" for x in heights], fontsize=8)
    axis.set_xticks(range(len(names)), names)
    axis.grid(axis="x", visible=False)
    axis.margins(y=0.12)
