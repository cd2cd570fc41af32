"""Which threshold should be used, what are precision, recall and F1 there, and which class is taken
for which?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .coco_evaluation import evaluate, matches
from .page import Figure, Headline, Section, Table, make_table
from .plots import BLUE, RUN_COLORS, draw_matrix, figure_uri, new_figure
from .run import Run

TITLE = "Which threshold should be used, and what is confused?"
MAX_CLASSES_WITH_DIGITS = 20


def threshold_curve(scores: np.ndarray, is_true: np.ndarray, num_truths: int) -> pd.DataFrame:
    """Measure what is found when all detections from a score upwards are kept.

    Unlike in AP, precision is not interpolated: these are the figures that a threshold gives.

    Args:
        scores: (K,).
        is_true: (K,) bool, matched with a ground truth.
        num_truths: ground truths that could have been found.

    Returns:
        one row for each different score, from the highest: "threshold", "precision", "recall" and
        "f1", in [0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(is_true[order])
    kept = np.arange(1, len(scores) + 1)
    table = pd.DataFrame(
        {
            "threshold": scores,
            "precision": hits / kept,
            "recall": hits / max(num_truths, 1),
            "f1": 2 * hits / (kept + num_truths),
        }
    )
    return table.drop_duplicates("threshold", keep="last", ignore_index=True)


def curves(
    detections: pd.DataFrame, matched: pd.DataFrame, ground_truth: pd.DataFrame
) -> dict[int | str, pd.DataFrame]:
    """Measure the :func:`threshold_curve` of each class with ground truths, and of all together, as
    "all".

    Args:
        matched: of :func:`~.coco_evaluation.matches`.
    """
    counted = detections.reset_index(drop=True).join(matched, how="inner")
    counted = counted[~counted.ignored]
    true = ground_truth[ground_truth.iscrowd == 0]
    groups = {k: (counted[counted.label == k], n) for k, n in true.label.value_counts().items()}
    groups["all"] = counted, len(true)
    return {
        k: threshold_curve(x.score.to_numpy(), (x.truth > 0).to_numpy(), n)
        for k, (x, n) in groups.items()
    }


def best_thresholds(of_class: dict[int | str, pd.DataFrame]) -> pd.DataFrame:
    """Choose the row with the highest F1 of each curve; classes without detections are absent."""
    rows = {k: curve.loc[curve.f1.idxmax()] for k, curve in of_class.items() if len(curve)}
    columns = ["threshold", "precision", "recall", "f1"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def curves_of(run: Run) -> dict[int | str, pd.DataFrame]:
    """Measure the :func:`curves` of a run."""
    return curves(run.detections, run.matched, run.dataset.ground_truth)


def class_confusion(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, *, threshold: float, **options
) -> np.ndarray:
    """Count ground truths and detections, matched at IoU 0.5 whatever their class, (C+1, C+1).

    Row is the true class and column the detected one; the last row holds detections of nothing (of
    the background, and duplicates) and the last column what was missed.

    Args:
        threshold: lower scores do not count.
        options: ``images`` and ``num_classes`` of :func:`~.coco_evaluation.evaluate`.
    """
    kept = detections[detections.score >= threshold].reset_index(drop=True)
    options |= {"iou_thresholds": [0.5], "use_classes": False}
    matched = matches(evaluate(ground_truth, kept, **options))
    matched = matched[~matched.ignored]
    true = ground_truth[ground_truth.iscrowd == 0].set_index("id").label
    nothing = options["num_classes"]
    rows = matched.truth.map(true).fillna(nothing).astype(int)
    columns = kept.label.reindex(matched.index)
    counts = np.zeros((nothing + 1, nothing + 1), int)
    np.add.at(counts, (rows.to_numpy(), columns.to_numpy()), 1)
    missed = true[~true.index.isin(matched.truth)]
    np.add.at(counts, (missed.to_numpy(), nothing), 1)
    return counts


def largest_confusions(counts: np.ndarray, names: Sequence[str], limit: int) -> pd.DataFrame:
    """List the most frequent pairs of two different classes: "true", "detected", "count"."""
    pairs = [
        (names[i], names[j], count)
        for (i, j), count in np.ndenumerate(counts[:-1, :-1])
        if i != j and count
    ]
    largest = sorted(pairs, key=lambda x: -x[-1])[:limit]
    return pd.DataFrame(largest, columns=["true", "detected", "count"])


def _curves_figure(runs: list[Run], of_runs: list[dict[int | str, pd.DataFrame]]) -> Figure:
    figure, ((precision, f1),) = new_figure(1, 2, height=3.6)
    for label, curve in of_runs[0].items():
        if label != "all":
            precision.plot(curve.recall, curve.precision, color=BLUE, alpha=0.25, linewidth=0.8)
            f1.plot(curve.threshold, curve.f1, color=BLUE, alpha=0.25, linewidth=0.8)
    for run, of_run, color in zip(runs, of_runs, RUN_COLORS, strict=False):
        curve = of_run["all"]
        precision.plot(curve.recall, curve.precision, color=color, linewidth=2)
        f1.plot(curve.threshold, curve.f1, color=color, linewidth=2, label=run.name)
    precision.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    f1.set(xlabel="score threshold", ylabel="F1", xlim=(0, 1), ylim=(0, 1.02))
    f1.legend(loc="best", fontsize=8)
    truths = len(runs[0].dataset.truths)
    counts = " and ".join(f"{len(x.detections)} of {x.name}" for x in runs)
    return Figure(
        figure_uri(figure),
        "Precision against recall, and F1 against the score threshold, for a match at IoU 0.5; "
        f"thick: all classes together, thin: each class of {runs[0].name}. {truths} objects; "
        f"detections: {counts}. Precision is not interpolated. A curve begins at the score "
        "threshold of the detector.",
        "Precision-recall and F1 curves",
    )


def _thresholds_table(run: Run, best: pd.DataFrame) -> Table:
    truths = run.dataset.truths.label.value_counts()
    order = sorted(k for k in best.index if k != "all") + ["all"]
    table = best.loc[order].rename(columns={"f1": "F1"})
    table[["precision", "recall", "F1"]] *= 100
    table["objects"] = [truths.sum() if k == "all" else truths[k] for k in order]
    table.index = [k if k == "all" else run.dataset.class_names[k] for k in order]
    return make_table(
        table,
        "The score threshold with the highest F1 of each class and of all together, and precision, "
        "recall and F1 there in percent, for a match at IoU 0.5. It is chosen on these very "
        "images, so that F1 is a little better here than it would be on others.",
        name="class",
        digits={"threshold": 3, "objects": 0},
    )


def _confusion_figure(counts: np.ndarray, names: list[str], threshold: float) -> Figure:
    few = len(names) <= MAX_CLASSES_WITH_DIGITS
    side = 2.2 + 0.45 * (len(names) + 1) if few else 8.5
    figure, axes = new_figure(1, 1, width=max(side, 3.4), height=max(side * 0.85, 2.9))
    labels = ([*names, "nothing"], [*names, "missed"])
    draw_matrix(axes[0, 0], counts, labels if few else None)
    axes[0, 0].set(xlabel="detected class", ylabel="true class")
    return Figure(
        figure_uri(figure),
        f"Detections with a score of at least {threshold:.3f} against the objects they match at "
        "IoU 0.5 whatever their class, in percent of each row; the last column is missed objects, "
        f"the last row detections of nothing (background, and duplicates). "
        f"{int(counts[:-1].sum())} objects, {int(counts[:, :-1].sum())} detections.",
        "Confusion matrix of the classes",
    )


def _confusion_blocks(run: Run, threshold: float) -> list[Figure | Table]:
    truth, names = run.dataset.ground_truth, list(run.dataset.class_names)
    counts = class_confusion(run.detections, truth, threshold=threshold, **run.dataset.options)
    blocks = [_confusion_figure(counts, names, threshold)]
    largest = largest_confusions(counts, names, limit=10)
    if len(largest):
        caption = "The most frequent confusions of two classes, ten at most."
        largest = largest.set_index("true")
        blocks.append(make_table(largest, caption, name="true class", digits={"count": 0}))
    return blocks


def section(runs: list[Run]) -> Section:
    """Show precision-recall and F1 curves, best thresholds, confusion of classes."""
    run = runs[0]
    if run.detections.empty:
        return Section("threshold", TITLE, missing="Left out: nothing was detected.")
    of_runs = [curves_of(x) for x in runs]
    table = best_thresholds(of_runs[0])
    best = table.loc["all"]
    text = [
        "AP is about the whole ranking; whoever uses a detector has to choose a threshold.",
        f"Over all classes together F1 is highest, {100 * best.f1:.1f} %, with a threshold of "
        f"{best.threshold:.3f}: precision {100 * best.precision:.1f} %, recall "
        f"{100 * best.recall:.1f} %.",
    ]
    confusion = _confusion_blocks(run, float(best.threshold))
    blocks = [_curves_figure(runs, of_runs), _thresholds_table(run, table), *confusion]
    note = f"score ≥ {best.threshold:.2f}"
    headlines = [Headline(f"{100 * best.f1:.1f}", "best F1", note)]
    return Section("threshold", TITLE, text, blocks, headlines=headlines)
