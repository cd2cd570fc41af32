"""The look of the page's figures, and figures as data URIs that an <img> shows."""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

STYLE = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.5",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "scopenet",  # the same figure gives the same file
}
# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#7f7f7f"
RUN_COLORS = (BLUE, ORANGE)
SCORE_COLORS = {"p_cls": BLUE, "p_loc": GREEN, "p_box": ORANGE, "score": BLUE}
SCORE_NAMES = {"p_cls": "$p_{cls}$", "p_loc": "$p_{loc}$", "p_box": "$p_{box}$", "score": "score"}


def new_figure(rows: int, columns: int, *, width: float = 9.0, height: float, **options):
    """Make a figure of ``width`` x ``height`` inches and its axes, (rows, columns)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def data_uri(content: bytes, kind: str) -> str:
    """Write a picture of the media type image/``kind`` as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def figure_uri(figure: Figure) -> str:
    """Write the figure as SVG; what is marked as rasterized in it is a bitmap of 150 dpi."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    return data_uri(buffer.getvalue(), "svg+xml")


def photo_uri(pixels: np.ndarray) -> str:
    """Write an RGB uint8 image (H, W, 3) as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=88)
    return data_uri(buffer.getvalue(), "jpeg")


def draw_matrix(
    axis: Axes, counts: np.ndarray, labels: tuple[Sequence[str], Sequence[str]] | None
) -> None:
    """Draw counts (N, M) as shares of their row in percent: as colours and, where the rows and the
    columns have labels, as numbers."""
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    axis.grid(False)
    if labels is None:
        return
    for (i, j), share in np.ndenumerate(shares):
        if counts[i, j]:
            color = "white" if share > 60 else "0.2"
            text = f"{share:.0f}" if share >= 0.5 else "·"
            axis.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    axis.set_yticks(range(len(counts)), labels[0])
    axis.set_xticks(range(counts.shape[1]), labels[1], rotation=45, ha="right")


def draw_bars(axis: Axes, values: dict[str, Sequence[float]], names: Sequence[str]) -> None:
    """Draw bars side by side, with their values written above them.

    Args:
        values: name of the run -> one value per name, NaN where there is none.
    """
    width = 0.8 / len(values)
    for i, (run, color) in enumerate(zip(values, RUN_COLORS, strict=False)):
        places = np.arange(len(names)) + (i - (len(values) - 1) / 2) * width
        heights = np.nan_to_num(np.asarray(values[run], float))
        bars = axis.bar(places, heights, width * 0.92, color=color, label=run)
        axis.bar_label(bars, [f"{v:.1f}" if v == v else "" for v in values[run]], fontsize=8)
    axis.set_xticks(range(len(names)), names)
    axis.grid(axis="x", visible=False)
