"""How accurate is it? AP, in all and by the size and the aspect ratio of the objects."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from .coco_evaluation import ALL, Ranges, evaluate, mean_precision
from .page import Block, Figure, Section, Table, number
from .plots import draw_bars, figure_uri, new_figure
from .run import Run

TITLE = "How accurate is it, by size and aspect ratio?"


def _ranges(names: str, edges: Sequence[float]) -> Ranges:
    """Name the ranges between neighbouring edges, of which the outer ones are open."""
    bounds = pairwise([-math.inf, *edges, math.inf])
    return dict(zip(names.split(", "), bounds, strict=True))


# In px² of the image file, written as the side of a square: COCO's own, then finer.
COCO_SIZES = _ranges("small, medium, large", [32**2, 96**2])
SIDES = (16, 32, 64, 96, 192, 384)
SIZES = _ranges("< 16, 16–32, 32–64, 64–96, 96–192, 192–384, ≥ 384", [x**2 for x in SIDES])
# Width over height.
ASPECTS = _ranges(
    "< 1:3, 1:3–1:2, 1:2–3:4, 3:4–4:3, 4:3–2:1, 2:1–3:1, ≥ 3:1", [1 / 3, 1 / 2, 3 / 4, 4 / 3, 2, 3]
)


def count_objects(truths: pd.DataFrame, ranges: Ranges, quantity: str) -> pd.Series:
    """Count the objects in each range."""
    values = truths[quantity]
    return pd.Series({k: values.between(*v, inclusive="left").sum() for k, v in ranges.items()})


def summary(run: Run) -> pd.Series:
    """Measure COCO's AP, AP50, AP75, APs, APm and APl in percent, and AP by :data:`SIZES`."""
    result = evaluate(run.dataset, run.detections, ranges=ALL | COCO_SIZES | SIZES)
    values = {"AP": mean_precision(result)}
    values |= {f"AP{x}": mean_precision(result, iou=x / 100) for x in (50, 75)}
    values |= {f"AP{name[0]}": mean_precision(result, name=name) for name in COCO_SIZES}
    values |= {name: mean_precision(result, name=name) for name in SIZES}
    return 100 * pd.Series(values)


def ap_by_aspect(run: Run) -> pd.Series:
    """Measure AP in percent by :data:`ASPECTS`."""
    result = evaluate(run.dataset, run.detections, ranges=ASPECTS, quantity="aspect")
    return 100 * pd.Series({name: mean_precision(result, name=name) for name in ASPECTS})


def occupied(counts: pd.Series) -> list[str]:
    """List the ranges from the first to the last that holds objects."""
    places = np.flatnonzero(counts)
    return list(counts.index[places[0] : places[-1] + 1])


def _figure(parts: list[tuple[pd.DataFrame, pd.Series, str]], num_truths: int) -> Figure:
    figure, axes = new_figure(len(parts), 1, height=2.9 * len(parts))
    for axis, (ap, counts, label) in zip(axes[:, 0], parts, strict=True):
        shown = occupied(counts)
        draw_bars(axis, ap.loc[shown], [f"{name}\nn={counts[name]}" for name in shown])
        axis.set(xlabel=label, ylabel="AP (percent)")
    axes[0, 0].legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.16))
    caption = (
        "AP in percent, mean over IoU 0.5–0.95 and over classes, of the objects in each range; "
        "objects outside it, and detections outside it that match none inside, are ignored. The "
        f"size is the square root of the object's area, n the number of objects of {num_truths}."
    )
    return Figure(figure_uri(figure), caption, "Bar charts of AP by size and by aspect ratio")


def section(runs: list[Run]) -> Section:
    """Show COCO's figures, and AP by size and aspect ratio."""
    dataset, truths = runs[0].dataset, runs[0].dataset.truths
    ap = pd.DataFrame({x.name: summary(x) for x in runs})
    by_aspect = pd.DataFrame({x.name: ap_by_aspect(x) for x in runs})
    sizes = count_objects(truths, SIZES, "area"), "size of the object (px of the image file)"
    aspects = count_objects(truths, ASPECTS, "aspect"), "aspect ratio, width : height"
    text = [
        "COCO's average precision, whose figure for a range or class with few objects is coarse."
    ]
    if len(runs) == 1:
        text.append("A second detector can be put beside this one: --compare.")
    caption = (
        f"COCO's figures in percent on {len(dataset.dicts)} images with {len(truths)} "
        "objects, at most 100 detections per image. APs, APm and APl are of objects with an area "
        "below 32² px, up to 96² px, and above."
    )
    table = Table(ap.drop(index=list(SIZES)).T, caption, "detector")
    headlines = []
    for name in ("AP", "AP50", "AP75"):
        value, *others = map(number, ap.loc[name])
        headlines.append((value, name, f"compared: {others[0]}" if others else "percent"))
    blocks: list[Block] = [table, _figure([(ap, *sizes), (by_aspect, *aspects)], len(truths))]
    return Section("ap", TITLE, text, blocks, headlines=headlines)
