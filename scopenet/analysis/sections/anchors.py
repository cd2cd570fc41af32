"""The learned anchors against their start."""

import io

import pandas as pd

from ...visualization import plot_anchors
from ..page import Figure, Section, Table, make_table
from ..plots import png_uri
from ..run import Bins
from ..study import Study
from .bin_choice import bin_name

TITLE = "Where have the anchors moved?"


def anchor_shifts(bins: Bins) -> pd.DataFrame:
    """By level and bin: start and learned anchor in px of the network input, and log2 of their
    ratio."""
    rows = {}
    for i, level in enumerate(bins.level_names):
        for n in range(bins.num_bins):
            name = bin_name(bins.edges[i].numpy(), n) if bins.num_bins > 1 else "all"
            start, learned = float(bins.start[i, n]), float(bins.learned[i, n])
            rows[level, name] = {
                "start": 2**start, "learned": 2**learned, "shift": learned - start
            }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def _table(bins: Bins) -> Table:
    shifts = anchor_shifts(bins)
    counts = pd.Series(0, index=shifts.index)
    if bins.borders is not None:
        counts = bins.borders.groupby(["level", "bin"]).size()
        places = [(i, n) for i in range(len(bins.level_names)) for n in range(bins.num_bins)]
        shifts["borders"] = counts.reindex(places, fill_value=0).to_numpy()
    shifts.index = [f"{level}, {name} px" for level, name in shifts.index]
    return make_table(
        shifts,
        "Start and learned anchor of each bin in px of the network input; shift is log2 of their "
        "ratio. Borders is how many of the positives of these images lie in the bin: where there "
        "are none in training either, only weight decay moves an anchor.",
        name="level, bin",
        digits={"start": 2, "learned": 2, "shift": 3, "borders": 0},
    )


def section(study: Study) -> Section:
    """Picture and table of the anchors."""
    run = study.main.run
    if run.bins is None:
        missing = f"Left out: {run.name} is a {run.detector.architecture}, without such anchors."
        return Section("anchors", TITLE, [], missing=missing)
    bins = run.bins
    picture = io.BytesIO()
    plot_anchors(bins.start, bins.learned, bins.edges, picture)
    largest = (bins.learned - bins.start).abs().max()
    text = [
        "Each level has one anchor per bin, shared by the four directions, that starts at the "
        f"bin's geometric centre and is learned. The largest shift is by {largest:.3f} in log2 px "
        f"(a factor of {2**largest:.2f})."
    ]
    names = ", ".join(f"level {i + 1} is {x}" for i, x in enumerate(bins.level_names))
    figure = Figure(
        png_uri(picture.getvalue()),
        f"The {bins.learned.numel()} learned anchors (filled) against their start (circles) and "
        f"the nominal edges of the bins (dashes), in px of the network input; {names}.",
        "Learned anchors and their start by level",
    )
    return Section("anchors", TITLE, text, [figure, _table(bins)])
