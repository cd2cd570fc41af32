"""Does a score say how good a box is? Equation 3's p_cls, p_loc and p_box against the true IoU."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .coco_evaluation import evaluate, mean_precision
from .page import Block, Figure, Section, Table, number
from .plots import SCORE_COLORS, SCORE_NAMES, draw_cloud, figure_uri, new_figure
from .run import Run

TITLE = "Do the scores know how good a box is?"
RECALLS = (0.5, 0.7, 0.9)
FOUND_IOU = 0.5  # from here on a detection is about an object at all
MAX_POINTS = 2000  # of those found and of the others; more would only overlap


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Measure Spearman's in [-1, 1]; NaN for fewer than three samples or a constant."""
    return pd.Series(x).rank().corr(pd.Series(y).rank(), min_periods=3)


def score_quality(run: Run, scores: Sequence[str]) -> pd.DataFrame:
    """Measure how well each of ``scores``, columns of the detections, ranks them: "rank
    correlation" with the true IoU over all detections, "of those found" over those with an IoU of
    at least 0.5, "AP75", and "P@R" for each of ``RECALLS``, the precision at that recall for IoU
    0.75; the last four in percent."""
    detections, ious, found = run.detections, run.true_ious, run.true_ious >= FOUND_IOU
    columns = {}
    for name in scores:
        values = detections[name].to_numpy()
        ranked = detections.assign(score=values)
        strict = evaluate(run.dataset, ranked, iou_thresholds=[0.75])
        columns[name] = {
            "rank correlation": rank_correlation(values, ious),
            "of those found": rank_correlation(values[found], ious[found]),
            "AP75": 100 * mean_precision(strict),
            **{f"P@R {r}": 100 * mean_precision(strict, recall=r) for r in RECALLS},
        }
    return pd.DataFrame(columns).T


def binned_mean(
    x: np.ndarray, y: np.ndarray, edges: np.ndarray, *, min_samples: int = 5
) -> pd.DataFrame:
    """Average y over the bins of x, one row for each with at least ``min_samples``: "x", its
    middle, "mean", "std" and "count"."""
    middles = (edges[:-1] + edges[1:]) / 2
    table = pd.DataFrame({"x": middles[np.digitize(x, edges[1:-1])], "y": y})
    parts = table.groupby("x", as_index=False).y
    table = parts.agg(mean="mean", std=lambda y: y.std(ddof=0), count="count")
    return table[table["count"] >= min_samples]


def _figure(run: Run) -> Figure:
    names, ious = run.score_columns, run.true_ious
    figure, axes = new_figure(1, len(names), width=3.1 * len(names) + 0.4, height=3.3, sharey=True)
    found = ious >= FOUND_IOU
    order = np.random.default_rng(0).permutation(len(ious))
    shown = np.concatenate([order[found[order] == x][:MAX_POINTS] for x in (True, False)])
    for axis, name in zip(axes[0], names, strict=True):
        scores = run.detections[name].to_numpy()
        draw_cloud(axis, scores[shown], ious[shown], SCORE_COLORS[name])
        mean = binned_mean(scores, ious, np.linspace(0, 1, 11))
        axis.plot(mean.x, mean["mean"], color="black", marker="o", markersize=4, label="mean")
        mean = binned_mean(scores[found], ious[found], np.linspace(0, 1, 11))
        axis.plot(mean.x, mean["mean"], "--", color="black", label="mean of those found")
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel=SCORE_NAMES[name], title=SCORE_NAMES[name])
    axes[0, 0].set_ylabel("true IoU")
    axes[0, 0].legend(loc="lower right")
    caption = (
        "The score of a detection against its true IoU, that with the best ground truth of its "
        f"class (0 if there is none). {len(ious)} detections of {run.name}, {found.sum()} of them "
        f"found (IoU at least {FOUND_IOU}); at most {MAX_POINTS} of either kind are drawn. Lines "
        "are means in ten intervals of the score, of those with five detections or more."
    )
    return Figure(figure_uri(figure), caption, "Scatter plots of score against true IoU")


def _text(run: Run) -> list[str]:
    if run.score_columns == ["score"]:
        return [
            "A score that knows how good its box is ranks the better of two boxes higher, in "
            f"non-maximum suppression as in AP. {run.name} has one score only."
        ]
    ranked_by = "p_box" if run.model.guided_score else "p_cls"
    return [
        "The paper's inherent advantage: how sure the network is of its bins, p_loc, is to tell "
        "how good a box is; p_box = p_cls · p_loc (equation 3) then ranks better than p_cls.",
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
    table = score_quality(run, run.score_columns)
    caption = (
        "Spearman's rank correlation of score and true IoU, over all detections and over those "
        f"found (IoU at least {FOUND_IOU}); AP75 and, for IoU 0.75, the precision at three "
        f"recalls (mean over classes, interpolated as in COCO), in percent, with the "
        f"{len(run.detections)} detections ranked by each score."
    )
    digits = {"rank correlation": 3, "of those found": 3}
    blocks: list[Block] = [_figure(run), Table(table, caption, "score", digits)]
    *others, (last, rho) = [(x, number(rho, 2)) for x, rho in table["of those found"].items()]
    note = ", ".join(" ".join(x) for x in others[::-1])
    headline = (rho, f"rank correlation of {last} and IoU", note)
    return Section("scores", TITLE, _text(run), blocks, headlines=[headline])
