"""Which threshold is best, what are precision, recall and F1 there, and what is taken for what?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .coco_evaluation import evaluate, matches
from .page import Block, Figure, Section, Table
from .plots import BLUE, RUN_COLORS, draw_matrix, figure_uri, new_figure
from .run import Run

TITLE = "Which threshold should be used, and what is confused?"
MAX_CLASSES_WITH_DIGITS = 20


def threshold_curve(scores: np.ndarray, is_true: np.ndarray, num_truths: int) -> pd.DataFrame:
    """Measure what is found of ``num_truths`` when all detections (K,) from a score upwards are
    kept: "threshold", "precision", "recall" and "f1", in [0, 1], by different score, highest first.

    Unlike in AP, precision is not interpolated: these are the figures that a threshold gives.
    """
    found = pd.DataFrame({"threshold": scores, "is_true": is_true}).groupby("threshold").is_true
    table = found.agg(right="sum", kept="size")[::-1].cumsum().reset_index()
    table["precision"] = table.right / table.kept
    table["recall"] = table.right / max(num_truths, 1)
    table["f1"] = 2 * table.right / (table.kept + num_truths)
    return table.drop(columns=["right", "kept"])


def curves(run: Run) -> dict[int | str, pd.DataFrame]:
    """Measure the :func:`threshold_curve` of each class with ground truths, and of "all"."""
    parts = {
        label: (run.matched[run.matched.label == label], count)
        for label, count in run.dataset.truths.label.value_counts().sort_index().items()
    }
    parts["all"] = run.matched, len(run.dataset.truths)
    return {k: threshold_curve(x.score, x.truth > 0, count) for k, (x, count) in parts.items()}


def best_thresholds(of_class: dict[int | str, pd.DataFrame]) -> pd.DataFrame:
    """Choose the row with the highest F1 of each curve; classes without detections are absent."""
    return pd.DataFrame({k: x.loc[x.f1.idxmax()] for k, x in of_class.items() if len(x)}).T


def class_confusion(run: Run, threshold: float) -> np.ndarray:
    """Count objects and detections from a score on, matched at IoU 0.5 in any class, (C+1, C+1).

    Row is the true class and column the detected one; the last row holds detections of nothing (of
    the background, and duplicates) and the last column what was missed.
    """
    found, nothing = run.above(threshold).detections, len(run.dataset.class_names)
    matched = matches(evaluate(run.dataset, found, iou_thresholds=[0.5], use_classes=False))
    found = found[["label"]].join(matched[~matched.ignored], how="inner")
    true = run.dataset.truths[["id", "label"]]
    pairs = found.merge(true, "outer", left_on="truth", right_on="id", suffixes=("_found", ""))
    pairs = pairs[["label", "label_found"]].fillna(nothing).astype(int)
    return np.histogram2d(pairs.label, pairs.label_found, np.arange(nothing + 2))[0].astype(int)


def largest_confusions(counts: np.ndarray, names: Sequence[str], limit: int) -> pd.DataFrame:
    """List the most frequent pairs of two different classes: "true", "detected", "count"."""
    wrong = counts[:-1, :-1] * ~np.eye(len(names), dtype=bool)
    true, detected = wrong.nonzero()
    columns = {"true": np.take(names, true), "detected": np.take(names, detected)}
    return pd.DataFrame(columns | {"count": wrong[true, detected]}).nlargest(limit, "count")


def _curves_figure(runs: list[Run], of_runs: list[dict[int | str, pd.DataFrame]]) -> Figure:
    figure, ((precision, f1),) = new_figure(1, 2, height=3.6)
    for curve in list(of_runs[0].values())[:-1]:  # the last is of all
        precision.plot(curve.recall, curve.precision, color=BLUE, alpha=0.25, linewidth=0.8)
        f1.plot(curve.threshold, curve.f1, color=BLUE, alpha=0.25, linewidth=0.8)
    for run, of_run, color in zip(runs, of_runs, RUN_COLORS, strict=False):
        curve = of_run["all"]
        precision.plot(curve.recall, curve.precision, color=color, linewidth=2)
        f1.plot(curve.threshold, curve.f1, color=color, linewidth=2, label=run.name)
    precision.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    f1.set(xlabel="score threshold", ylabel="F1", xlim=(0, 1), ylim=(0, 1.02))
    f1.legend(loc="best", fontsize=8)
    counts = " and ".join(f"{len(x.detections)} of {x.name}" for x in runs)
    caption = (
        "Precision against recall, and F1 against the score threshold, for a match at IoU 0.5; "
        f"thick: all classes together, thin: each class of {runs[0].name}. "
        f"{len(runs[0].dataset.truths)} objects; detections: {counts}. Precision is not "
        "interpolated. A curve begins at the score threshold of the detector."
    )
    return Figure(figure_uri(figure), caption, "Precision-recall and F1 curves")


def _thresholds_table(run: Run, best: pd.DataFrame) -> Table:
    counts = run.dataset.truths.label.value_counts()
    table = best.rename(columns={"f1": "F1"})
    table[["precision", "recall", "F1"]] *= 100
    table["objects"] = [counts.get(k, counts.sum()) for k in table.index]  # "all" is none of them
    table = table.rename(index=dict(enumerate(run.dataset.class_names)))
    caption = (
        "The score threshold with the highest F1 of each class and of all together, and precision, "
        "recall and F1 there in percent, for a match at IoU 0.5. It is chosen on these very "
        "images, so that F1 is a little better here than it would be on others."
    )
    return Table(table, caption, "class", {"threshold": 3})


def _confusion_blocks(run: Run, threshold: float) -> list[Figure | Table]:
    counts, names = class_confusion(run, threshold), run.dataset.class_names
    few = len(names) <= MAX_CLASSES_WITH_DIGITS
    side = 2.2 + 0.45 * (len(names) + 1) if few else 8.5
    figure, ((axis,),) = new_figure(1, 1, width=max(side, 3.4), height=max(side * 0.85, 2.9))
    draw_matrix(axis, counts, ([*names, "nothing"], [*names, "missed"]) if few else None)
    axis.set(xlabel="detected class", ylabel="true class")
    caption = (
        f"Detections with a score of at least {threshold:.3f} against the objects they match at "
        "IoU 0.5 whatever their class, in percent of each row; the last column is missed objects, "
        f"the last row detections of nothing (background, and duplicates). {counts[:-1].sum()} "
        f"objects, {counts[:, :-1].sum()} detections."
    )
    matrix = Figure(figure_uri(figure), caption, "Confusion matrix of the classes")
    largest = largest_confusions(counts, names, limit=10).set_index("true")
    caption = "The most frequent confusions of two classes, ten at most."
    return [matrix, Table(largest, caption, "true class")] if len(largest) else [matrix]


def section(runs: list[Run]) -> Section:
    """Show precision-recall and F1 curves, best thresholds, confusion of classes."""
    run = runs[0]
    if run.detections.empty:
        return Section("threshold", TITLE, missing="Left out: nothing was detected.")
    of_runs = [curves(x) for x in runs]
    table = best_thresholds(of_runs[0])
    best = table.loc["all"]
    text = [
        "AP is about the whole ranking; whoever uses a detector has to choose a threshold.",
        f"Over all classes together F1 is highest, {100 * best.f1:.1f} %, with a threshold of "
        f"{best.threshold:.3f}: precision {100 * best.precision:.1f} %, recall "
        f"{100 * best.recall:.1f} %.",
    ]
    confusion = _confusion_blocks(run, float(best.threshold))
    blocks: list[Block] = [_curves_figure(runs, of_runs), _thresholds_table(run, table), *confusion]
    headlines = [(f"{100 * best.f1:.1f}", "best F1", f"score ≥ {best.threshold:.2f}")]
    return Section("threshold", TITLE, text, blocks, headlines=headlines)
