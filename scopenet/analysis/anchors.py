"""Where have the anchors moved, from where they started?"""

from functools import partial

import numpy as np
import pandas as pd

from ..modeling import ScopeNet
from ..visualization import plot_anchors
from .bin_choice import bin_names
from .page import Figure, Section, Table
from .plots import data_uri
from .run import Run

TITLE = "Where have the anchors moved?"


def anchor_shifts(run: Run) -> pd.DataFrame:
    """List for each level and bin the start and the learned anchor in px of the network input, log2
    of their ratio, and, where there is a choice of bins, how many borders lie in the bin."""
    model = run.model
    levels = enumerate(model.head_in_features)
    names = [f"{level}, {name} px" for i, level in levels for name in bin_names(model, i)]
    anchors = (model.log2_anchor_start, model.log2_anchors)  # (L, N) each
    start, learned = (x.detach().flatten().cpu().numpy() for x in anchors)
    columns = {"start": 2**start, "learned": 2**learned, "shift": learned - start}
    if run.borders is not None:
        places = run.borders.level * model.num_bins + run.borders.bin
        columns["borders"] = np.bincount(places, minlength=len(names))
    return pd.DataFrame(columns, names)


def section(runs: list[Run]) -> Section:
    """Show picture and table of the anchors."""
    run, model = runs[0], runs[0].model
    if not isinstance(model, ScopeNet):
        missing = f"Left out: {run.name} is a {type(model).__name__}, without such anchors."
        return Section("anchors", TITLE, missing=missing)
    shifts = anchor_shifts(run)
    largest = shifts["shift"].abs().max()
    text = [
        "Each level has one anchor per bin, shared by the four directions, that starts at the "
        f"bin's geometric centre and is learned. The largest shift is by {largest:.3f} in log2 px "
        f"(a factor of {2**largest:.2f})."
    ]
    start, learned = model.log2_anchor_start.cpu(), model.log2_anchors.detach().cpu()
    uri = data_uri("png", partial(plot_anchors, start, learned, model.bin_edges.cpu()))
    names = ", ".join(f"level {i} is {x}" for i, x in enumerate(model.head_in_features, start=1))
    caption = (
        f"The {learned.numel()} learned anchors (filled) against their start (circles) and the "
        f"nominal edges of the bins (dashes), in px of the network input; {names}."
    )
    figure = Figure(uri, caption, "Learned anchors and their start by level")
    caption = (
        "Start and learned anchor of each bin in px of the network input; shift is log2 of their "
        "ratio. Borders is how many of the positives of these images lie in the bin: where there "
        "are none in training either, only weight decay moves an anchor."
    )
    digits = {"start": 2, "learned": 2, "shift": 3}
    table = Table(shifts, caption, "level, bin", digits)
    return Section("anchors", TITLE, text, [figure, table])
