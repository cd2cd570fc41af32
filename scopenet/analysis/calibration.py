"""Does a score say how good a box is? Equation 3's p_cls, p_loc and p_box against the true IoU."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binned_statistic, spearmanr

from .coco_evaluation import evaluate, mean_precision
from .page import Figure, Headline, Section, make_table, number
from .plots import SCORE_COLORS, SCORE_NAMES, figure_uri, new_figure
from .run import Run

TITLE = "Do the scores know how good a box is?"
RECALLS = (0.5, 0.7, 0.9)
FOUND_IOU = 0.5  # from here on a detection is about an object at all
STRICT_IOU = 0.75  # AP75
MAX_POINTS = 2000  # of those found and of the others; more would only overlap


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Measure Spearman's in [-1, 1]; NaN for fewer than three samples or a constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(spearmanr(x, y).statistic)


def score_quality(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    ious: np.ndarray,
    scores: Sequence[str],
    **options,
) -> pd.DataFrame:
    """Measure how well each score ranks the same detections.

    Args:
        ious: see :func:`~.boxes.true_ious`.
        scores: columns of ``detections``.
        options: ``images`` and ``num_classes`` of :func:`~.coco_evaluation.evaluate`.

    Returns:
        by score: "rank correlation" over all detections, "of those found" over those with an IoU of
        at least 0.5, "AP75", and "P@R" for each of ``RECALLS``, the precision at that recall for
        IoU 0.75; the last four in percent.
    """
    found = ious >= FOUND_IOU
    options |= {"iou_thresholds": [STRICT_IOU]}
    rows = {}
    for name in scores:
        values = detections[name].to_numpy()
        strict = evaluate(ground_truth, detections, score=name, **options)
        rows[name] = {
            "rank correlation": rank_correlation(values, ious),
            "of those found": rank_correlation(values[found], ious[found]),
            "AP75": 100 * mean_precision(strict),
        } | {f"P@R {r}": 100 * mean_precision(strict, recall=r) for r in RECALLS}
    return pd.DataFrame.from_dict(rows, orient="index")


def binned_mean(
    x: np.ndarray, y: np.ndarray, edges: np.ndarray, *, min_samples: int = 5
) -> pd.DataFrame:
    """Average y where x is in [edges[i], edges[i+1]), the last bin closed.

    Returns:
        "x", the middle of each bin with at least ``min_samples``, "mean", "std" and "count".
    """
    columns = {name: binned_statistic(x, y, name, edges).statistic if len(x) else edges[1:] * 0.0
               for name in ("mean", "std", "count")}  # fmt: skip
    table = pd.DataFrame({"x": (edges[:-1] + edges[1:]) / 2} | columns)
    return table[table["count"] >= min_samples].reset_index(drop=True)


def _figure(run: Run) -> Figure:
    names, ious = run.score_columns, run.true_ious
    figure, axes = new_figure(1, len(names), width=3.1 * len(names) + 0.4, height=3.3, sharey=True)
    found = ious >= FOUND_IOU
    order = np.random.default_rng(0).permutation(len(ious))
    shown = np.concatenate([order[found[order] == x][:MAX_POINTS] for x in (True, False)])
    for axis, name in zip(axes[0], names, strict=True):
        scores = run.detections[name].to_numpy()
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
    return Figure(
        figure_uri(figure),
        "The score of a detection against its true IoU, that with the best ground truth of its "
        "class (0 if there is none). "
        f"{len(ious)} detections of {run.name}, {found.sum()} of them found (IoU at least "
        f"{FOUND_IOU}); at most {MAX_POINTS} of either kind are drawn. The lines are means in ten "
        "intervals of the score (those with five or more), solid over all detections, dashed over "
        "those found.",
        "Scatter plots of score against true IoU",
    )


def _text(run: Run) -> list[str]:
    if run.score_columns == ["score"]:
        return [
            "A score that knows how good its box is ranks the better of two boxes higher: in "
            "non-maximum suppression, in AP and for whoever reads the scores. "
            f"{run.name} has one score only."
        ]
    ranked_by = "p_box" if run.model.guided_score else "p_cls"
    return [
        "The paper's inherent advantage: how sure the network is of its bins, p_loc, is to tell "
        "how good a box is, so that p_box = p_cls · p_loc (equation 3) ranks boxes better than "
        "p_cls does.",
        f"All figures are of the same detections, chosen and suppressed by {ranked_by}; only "
        "their ranking changes. A score threshold cuts both p_box and p_cls off from below. p_loc "
        "knows nothing of the class: it is meant to order boxes that are about an object, not to "
        "tell objects from background.",
    ]


def section(runs: list[Run]) -> Section:
    """Show score against true IoU, rank correlations, precision at fixed recalls."""
    run = runs[0]
    if run.detections.empty:
        return Section("scores", TITLE, missing="Left out: nothing was detected.")
    truth, options = run.dataset.ground_truth, run.dataset.options
    table = score_quality(run.detections, truth, run.true_ious, run.score_columns, **options)
    caption = (
        "Spearman's rank correlation of score and true IoU, over all detections and over those "
        f"found (IoU at least {FOUND_IOU}); AP75 and, for IoU 0.75, the precision at three "
        f"recalls (mean over classes, interpolated as in COCO), in percent, with the "
        f"{len(run.detections)} detections ranked by each score."
    )
    digits = {"rank correlation": 3, "of those found": 3}
    blocks = [_figure(run), make_table(table, caption, name="score", digits=digits)]
    quality = table["of those found"]
    last, *others = quality.index[::-1]
    note = ", ".join(f"{x} {number(quality[x], 2)}" for x in others)
    label = f"rank correlation of {last} and IoU"
    headlines = [Headline(number(quality[last], 2), label, note)]
    return Section("scores", TITLE, _text(run), blocks, headlines=headlines)
