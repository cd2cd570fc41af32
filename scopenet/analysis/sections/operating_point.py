"""Precision and recall, the best threshold, and which class is taken for which."""

import numpy as np
import pandas as pd

from ..class_confusion import class_confusion, largest_confusions
from ..page import Figure, Section, Table, make_table
from ..plots import BLUE, RUN_COLORS, draw_matrix, figure_uri, new_figure
from ..study import Measurement, Study

TITLE = "Which threshold should be used, and what is confused?"
MAX_CLASSES_WITH_DIGITS = 20


def _curves_figure(study: Study) -> Figure:
    figure, (axes,) = new_figure(1, 2, height=3.6)
    precision, f1 = axes
    for label, curve in study.main.curves.items():
        if label != "all":
            precision.plot(curve.recall, curve.precision, color=BLUE, alpha=0.25, linewidth=0.8)
            f1.plot(curve.threshold, curve.f1, color=BLUE, alpha=0.25, linewidth=0.8)
    for measurement, color in zip(study.both, RUN_COLORS, strict=False):
        curve = measurement.curves["all"]
        precision.plot(curve.recall, curve.precision, color=color, linewidth=2)
        f1.plot(curve.threshold, curve.f1, color=color, linewidth=2, label=measurement.name)
    precision.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    f1.set(xlabel="score threshold", ylabel="F1", xlim=(0, 1), ylim=(0, 1.02))
    f1.legend(loc="best", fontsize=8)
    truths = len(study.dataset.truths)
    counts = " and ".join(f"{len(x.run.detections)} of {x.name}" for x in study.both)
    return Figure(
        figure_uri(figure),
        "Precision against recall, and F1 against the score threshold, for a match at IoU 0.5; "
        f"thick: all classes together, thin: each class of {study.main.name}. {truths} objects; "
        f"detections: {counts}. Precision is not interpolated. A curve begins at the score "
        "threshold of the detector.",
        "Precision-recall and F1 curves",
    )


def _thresholds_table(study: Study) -> Table:
    truths = study.dataset.truths.label.value_counts()
    table = study.main.best_thresholds.copy()
    table[["precision", "recall", "f1"]] *= 100
    table["objects"] = [truths.sum() if k == "all" else truths[k] for k in table.index]
    order = sorted(k for k in table.index if k != "all") + ["all"]
    table = table.loc[order].rename(columns={"f1": "F1"})
    table.index = [k if k == "all" else study.dataset.class_names[k] for k in table.index]
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
    draw_matrix(axes[0, 0], counts, digits=few)
    if few:
        places = range(len(names) + 1)
        axes[0, 0].set_xticks(places, [*names, "missed"], rotation=45, ha="right")
        axes[0, 0].set_yticks(places, [*names, "nothing"])
    axes[0, 0].set(xlabel="detected class", ylabel="true class")
    return Figure(
        figure_uri(figure),
        f"Detections with a score of at least {threshold:.3f} against the objects they match at "
        "IoU 0.5 whatever their class, in percent of each row; the last column is missed objects, "
        f"the last row detections of nothing (background, and duplicates). "
        f"{int(counts[:-1].sum())} objects, {int(counts[:, :-1].sum())} detections.",
        "Confusion matrix of the classes",
    )


def _confusion_blocks(measurement: Measurement) -> list[Figure | Table]:
    dataset = measurement.dataset
    threshold = float(measurement.best_thresholds.threshold["all"])
    counts = class_confusion(
        measurement.run.detections, dataset.ground_truth, threshold=threshold, **dataset.options
    )
    blocks = [_confusion_figure(counts, list(dataset.class_names), threshold)]
    largest = largest_confusions(counts, dataset.class_names, limit=10)
    if len(largest):
        caption = "The most frequent confusions of two classes, ten at most."
        largest = largest.set_index("true")
        blocks.append(make_table(largest, caption, name="true class", digits=0))
    return blocks


def _overall(table: pd.DataFrame) -> str:
    best = table.loc["all"]
    return (
        f"Over all classes together F1 is highest, {100 * best.f1:.1f} %, with a threshold of "
        f"{best.threshold:.3f}: precision {100 * best.precision:.1f} %, recall "
        f"{100 * best.recall:.1f} %."
    )


def section(study: Study) -> Section:
    """Precision-recall and F1 curves, best thresholds, confusion of classes."""
    measurement = study.main
    if measurement.run.detections.empty:
        return Section("threshold", TITLE, [], missing="Left out: nothing was detected.")
    text = [
        "AP is about the whole ranking; whoever uses a detector has to choose a threshold.",
        _overall(measurement.best_thresholds),
    ]
    blocks = [_curves_figure(study), _thresholds_table(study), *_confusion_blocks(measurement)]
    return Section("threshold", TITLE, text, blocks)
