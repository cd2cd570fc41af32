"""Plot time and memory against the number of boxes and against the image's area."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {
    "ScopeNet": "#0072b2",
    "FCOS": "#d55e00",
    "RetinaNet": "#009e73",
    "tuned FCOS": "#e69f00",
    "tuned FCOS without GN": "#cc79a7",
    "tuned RetinaNet": "#56b4e9",
}


def _curves(axis: Axes, table: pd.DataFrame, x: str, y: str, y_label: str) -> None:
    for name, found in table.groupby("detector", sort=False):
        axis.plot(found[x], found[y], "o-", markersize=4, label=name, color=COLORS.get(name))
        if y == "seconds":
            axis.fill_between(
                found[x], found["min"], found["max"], alpha=0.2, color=COLORS.get(name)
            )
    axis.set(xscale="log", yscale="log", ylabel=y_label)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)


def _prepared(table: pd.DataFrame, suite: str) -> pd.DataFrame:
    found = table[(table["suite"] == suite) & ~table["detector"].str.contains(":")]
    return found.assign(
        seconds=found["median"],
        mebibytes=found["peak_bytes"] / 2**20,
        megapixels=found["height"] * found["width"] / 1e6,
    )


def draw_boxes(table: pd.DataFrame) -> Figure:
    """Plot labels, losses and their backward pass against the number of boxes."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    found = _prepared(table, "boxes")
    _curves(time, found, "boxes", "seconds", "seconds")
    _curves(memory, found, "boxes", "mebibytes", "peak memory, MiB")
    for axis in (time, memory):
        axis.set_xlabel("boxes in the image")
    figure.suptitle("Labels, losses and their backward pass, one image of 800×1344 px", fontsize=11)
    return figure


def draw_areas(table: pd.DataFrame) -> Figure:
    """Plot whole inference and a whole training step against the image's area."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    for row, step in zip(figure.subplots(2, 2), ("inference", "training"), strict=True):
        found = _prepared(table, f"{step} by area")
        _curves(row[0], found, "megapixels", "seconds", "seconds")
        _curves(row[1], found, "megapixels", "mebibytes", "peak memory, MiB")
        for axis in row:
            axis.set(xlabel="megapixels", title=f"{step}, one image")
    return figure
