"""Calibration: which score knows how good a box is."""

import numpy as np

from ..calibration import FOUND_IOU, binned_mean
from ..page import Figure, Section, make_table
from ..plots import SCORE_COLORS, SCORE_NAMES, figure_uri, new_figure
from ..study import Measurement, Study

MAX_POINTS = 2000  # of those found and of the others; more would only overlap
TITLE = "Do the scores know how good a box is?"


def _scatter(measurement: Measurement) -> str:
    names = measurement.run.score_columns
    detections, ious = measurement.run.detections, measurement.true_ious
    figure, axes = new_figure(1, len(names), width=3.1 * len(names) + 0.4, height=3.3, sharey=True)
    found = ious >= FOUND_IOU
    order = np.random.default_rng(0).permutation(len(detections))
    shown = np.concatenate([order[found[order] == x][:MAX_POINTS] for x in (True, False)])
    for axis, name in zip(axes[0], names, strict=True):
        scores = detections[name].to_numpy()
        color = SCORE_COLORS[name]
        axis.scatter(
            scores[shown], ious[shown], s=5, alpha=0.2, color=color, linewidths=0, rasterized=True
        )
        mean = binned_mean(scores, ious, np.linspace(0, 1, 11))
        axis.plot(mean.x, mean["mean"], color="black", marker="o", markersize=4, label="mean")
        mean = binned_mean(scores[found], ious[found], np.linspace(0, 1, 11))
        axis.plot(mean.x, mean["mean"], "--", color="black", label="mean of those found")
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel=SCORE_NAMES[name], title=SCORE_NAMES[name])
    axes[0, 0].set_ylabel("true IoU")
    axes[0, 0].legend(loc="lower right")
    return figure_uri(figure)


def _figure(measurement: Measurement) -> Figure:
    count, found = len(measurement.true_ious), (measurement.true_ious >= FOUND_IOU).sum()
    return Figure(
        _scatter(measurement),
        "The score of a detection against its true IoU, that with the best ground truth of its "
        "class (0 if there is none). "
        f"{count} detections of {measurement.name}, {found} of them found (IoU at least "
        f"{FOUND_IOU}); at most {MAX_POINTS} of either kind are drawn. The lines are means in ten "
        "intervals of the score (those with five or more), solid over all detections, dashed over "
        "those found.",
        "Scatter plots of score against true IoU",
    )


def _text(study: Study) -> list[str]:
    run = study.main.run
    if run.score_columns == ["score"]:
        return [
            "A score that knows how good its box is ranks the better of two boxes higher: in "
            "non-maximum suppression, in AP and for whoever reads the scores. "
            f"{run.name} has one score only."
        ]
    ranked_by = "p_box" if run.bins.guided_score else "p_cls"
    return [
        "The paper's inherent advantage: how sure the network is of its bins, p_loc, is to tell "
        "how good a box is, so that p_box = p_cls · p_loc (equation 3) ranks boxes better than "
        "p_cls does.",
        f"All figures are of the same detections, chosen and suppressed by {ranked_by}; only "
        "their ranking changes. A score threshold cuts both p_box and p_cls off from below. p_loc "
        "knows nothing of the class: it is meant to order boxes that are about an object, not to "
        "tell objects from background.",
    ]


def section(study: Study) -> Section:
    """Score against true IoU, rank correlations, precision at fixed recalls."""
    measurement = study.main
    if measurement.run.detections.empty:
        return Section("scores", TITLE, [], missing="Left out: nothing was detected.")
    table = measurement.score_quality
    caption = (
        "Spearman's rank correlation of score and true IoU, over all detections and over those "
        f"found (IoU at least {FOUND_IOU}); AP75 and, for IoU 0.75, the precision at three "
        f"recalls (mean over classes, interpolated as in COCO), in percent, with the "
        f"{len(measurement.run.detections)} detections ranked by each score."
    )
    digits = {"rank correlation": 3, "of those found": 3}
    blocks = [_figure(measurement), make_table(table, caption, name="score", digits=digits)]
    return Section("scores", TITLE, _text(study), blocks)
