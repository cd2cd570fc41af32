"""How accurate is it? AP, in all and by the size and the aspect ratio of the objects."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from .coco_evaluation import ALL, Ranges, evaluate, mean_precision
from .page import Figure, Headline, Section, make_table, number
from .plots import draw_bars, figure_uri, new_figure
from .run import Run

TITLE = "How accurate is it, by size and aspect ratio?"


def _ranges(names: str, edges: Sequence[float]) -> Ranges:
    """Name the ranges between neighbouring edges, of which the outer ones are open."""
    bounds = pairwise([-math.inf, *edges, math.inf])
    return dict(zip(names.split(", "), bounds, strict=True))


# In px² of the image file, written as the side of a square: COCO's own, then finer.
COCO_SIZES = {**ALL, **_ranges("small, medium, large", [32**2, 96**2])}
SIDES = (16, 32, 64, 96, 192, 384)
SIZES = _ranges("< 16, 16–32, 32–64, 64–96, 96–192, 192–384, ≥ 384", [x**2 for x in SIDES])
# Width over height.
ASPECTS = _ranges(
    "< 1:3, 1:3–1:2, 1:2–3:4, 3:4–4:3, 4:3–2:1, 2:1–3:1, ≥ 3:1", [1 / 3, 1 / 2, 3 / 4, 4 / 3, 2, 3]
)
COCO_NAMES = {"AP": "all", "APs": "small", "APm": "medium", "APl": "large"}  # -> the range


def count_objects(ground_truth: pd.DataFrame, ranges: Ranges, quantity: str) -> pd.Series:
    """Count the ground truths in each range, crowds left out."""
    values = ground_truth.loc[ground_truth.iscrowd == 0, quantity]
    counts = {k: int(values.between(*v, inclusive="left").sum()) for k, v in ranges.items()}
    return pd.Series(counts, name="objects")


def summary(detections: pd.DataFrame, ground_truth: pd.DataFrame, **options) -> pd.Series:
    """Measure COCO's AP, AP50, AP75, APs, APm and APl in percent, and AP by :data:`SIZES`.

    Args:
        options: ``images`` and ``num_classes`` of :func:`~.coco_evaluation.evaluate`.
    """
    result = evaluate(ground_truth, detections, ranges=COCO_SIZES | SIZES, **options)
    names = COCO_NAMES | {k: k for k in SIZES}
    values = {k: mean_precision(result, name=v) for k, v in names.items()}
    values |= {f"AP{iou}": mean_precision(result, iou=iou / 100) for iou in (50, 75)}
    order = ["AP", "AP50", "AP75", "APs", "APm", "APl", *SIZES]
    return 100 * pd.Series(values)[order]


def ap_by_aspect(detections: pd.DataFrame, ground_truth: pd.DataFrame, **options) -> pd.Series:
    """Measure AP in percent by :data:`ASPECTS`; for the options see :func:`summary`."""
    options |= {"ranges": ASPECTS, "quantity": "aspect"}
    result = evaluate(ground_truth, detections, **options)
    return 100 * pd.Series({name: mean_precision(result, name=name) for name in ASPECTS})


def occupied(counts: pd.Series) -> list[str]:
    """List the ranges from the first to the last that holds objects."""
    (places,) = np.nonzero(counts.to_numpy())
    return list(counts.index[places.min() : places.max() + 1])


def _figure(parts: list[tuple[pd.DataFrame, pd.Series, str]], num_truths: int) -> Figure:
    figure, axes = new_figure(len(parts), 1, height=2.9 * len(parts))
    for axis, (ap, counts, label) in zip(axes[:, 0], parts, strict=True):
        ap = ap.loc[occupied(counts)]
        names = [f"{name}\nn={counts[name]}" for name in ap.index]
        draw_bars(axis, {run: ap[run].tolist() for run in ap}, names)
        axis.set(xlabel=label, ylabel="AP (percent)")
        axis.margins(y=0.12)
    axes[0, 0].legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.16))
    return Figure(
        figure_uri(figure),
        "AP in percent, mean over IoU 0.5–0.95 and over classes, of the objects in each range; "
        "objects outside it, and detections outside it that match none inside, are ignored. The "
        f"size is the square root of the object's area. n is the number of objects, "
        f"{num_truths} in all.",
        "Bar charts of AP by size and by aspect ratio",
    )


def section(runs: list[Run]) -> Section:
    """Show COCO's figures, and AP by size and aspect ratio."""
    dataset, truths = runs[0].dataset, runs[0].dataset.truths
    ap, by_aspect = (
        pd.DataFrame(
            {x.name: measure(x.detections, dataset.ground_truth, **dataset.options) for x in runs}
        )
        for measure in (summary, ap_by_aspect)
    )
    sizes = count_objects(truths, SIZES, "area"), "size of the object (px of the image file)"
    aspects = count_objects(truths, ASPECTS, "aspect"), "aspect ratio, width : height"
    text = [
        "COCO's average precision. Few objects in a range, or a class with few of them, make its "
        "figure a coarse one."
    ]
    if len(runs) == 1:
        text.append("A second detector can be put beside this one: --compare.")
    caption = (
        f"COCO's figures in percent on {len(dataset.dicts)} images with {len(truths)} "
        "objects, at most 100 detections per image. APs, APm and APl are of objects with an area "
        "below 32² px, up to 96² px, and above."
    )
    table = make_table(ap.drop(index=list(SIZES)).T, caption, name="detector")
    blocks = [table, _figure([(ap, *sizes), (by_aspect, *aspects)], len(truths))]
    headlines = []
    for name in ("AP", "AP50", "AP75"):
        value, *others = map(number, ap.loc[name])
        note = f"compared: {others[0]}" if others else "percent"
        headlines.append(Headline(value, name, note))
    return Section("ap", TITLE, text, blocks, headlines=headlines)
