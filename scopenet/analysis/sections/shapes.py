"""AP, in all and by size and aspect ratio of the objects, beside that of another detector."""

import pandas as pd

from ..object_shapes import ASPECTS, SIZES, ap_by_aspect, count_objects, occupied
from ..page import Figure, Section, make_table
from ..plots import draw_bars, figure_uri, new_figure
from ..study import Study

TITLE = "How accurate is it, by size and aspect ratio?"
COCO_NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def _aspects(study: Study) -> pd.DataFrame:
    dataset = study.dataset
    return pd.DataFrame(
        {x.name: ap_by_aspect(x.run.detections, dataset.ground_truth, **dataset.options)
         for x in study.both}
    )  # fmt: skip


def _figure(parts: list[tuple[pd.DataFrame, pd.Series, str]], num_truths: int) -> Figure:
    figure, axes = new_figure(len(parts), 1, height=2.9 * len(parts))
    for axis, (ap, counts, label) in zip(axes[:, 0], parts, strict=True):
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


def section(study: Study) -> Section:
    """COCO's figures, and AP by size and aspect ratio."""
    truths = study.dataset.truths
    ap = pd.DataFrame({x.name: x.summary for x in study.both})
    sizes = count_objects(truths, SIZES, "area")
    aspects = count_objects(truths, ASPECTS, "aspect")
    shapes = [
        (ap.loc[occupied(sizes)], sizes, "size of the object (px of the image file)"),
        (_aspects(study).loc[occupied(aspects)], aspects, "aspect ratio, width : height"),
    ]
    text = [
        "COCO's average precision. Few objects in a range, or a class with few of them, make its "
        "figure a coarse one."
    ]
    if study.other is None:
        text.append("A second detector can be put beside this one: --compare-config.")
    caption = (
        f"COCO's figures in percent on {len(study.dataset.dicts)} images with {len(truths)} "
        "objects, at most 100 detections per image. APs, APm and APl are of objects with an area "
        "below 32² px, up to 96² px, and above."
    )
    blocks = [
        make_table(ap.loc[COCO_NAMES].T, caption, name="detector"),
        _figure(shapes, len(truths)),
    ]
    return Section("ap", TITLE, text, blocks)
