"""What kinds of errors there are and what each costs: TIDE (Bolya et al. 2020,
https://arxiv.org/abs/2008.08115).

The authors' package ``tidecv`` had its last release in 2020 and asks for plotting libraries of its
own, so its definitions stand here; matching and AP are COCO's. The figures are those of tidecv
1.0.1 but for one: where a misplaced and a misclassified detection are about the same object, tidecv
puts only the one with the higher score right, whichever of the two types is looked at.
"""

import numpy as np
import pandas as pd

from .boxes import BOX, best_overlaps, overlaps
from .coco_evaluation import evaluate, matches, mean_precision
from .page import Figure, Section, Table, make_table
from .plots import draw_bars, figure_uri, new_figure
from .run import Run

TITLE = "What kinds of errors are made?"
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1  # t_f and t_b of section 2.2
ERRORS = {
    "classification": "on an object, but of another class",
    "localization": "on an object of its class, but with an IoU from 0.1 to 0.5",
    "both": "overlaps an object of another class only, with an IoU from 0.1 to 0.5",
    "duplicate": "right, but a better one has found the object already",
    "background": "overlaps no object, or with an IoU of at most 0.1",
    "missed": "an object that no detection is right about, nor wrong in one of the first two ways",
}


def label_errors(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, matched: pd.DataFrame
) -> pd.DataFrame:
    """Find the error type of each detection.

    Args:
        matched: of :func:`~.coco_evaluation.matches` at IoU 0.5.

    Returns:
        by row number of the detections in ``matched``: ``error``, one of ``ERRORS``, "" if it is
        right or ignored; ``truth``, the id of the ground truth it should have found or has found,
        or 0.
    """
    pairs = overlaps(detections, ground_truth)
    same = best_overlaps(pairs[pairs.same_class], len(detections)).loc[matched.index]
    other = best_overlaps(pairs[~pairs.same_class], len(detections)).loc[matched.index]
    misplaced = same.iou.between(BACKGROUND_IOU, FOREGROUND_IOU, inclusive="left")
    # In the order of the authors' code: the first that holds.
    cases = {
        "": (matched.truth > 0) | matched.ignored,
        "localization": misplaced,
        "classification": other.iou >= FOREGROUND_IOU,
        "duplicate": same.iou >= FOREGROUND_IOU,
        "background": np.maximum(same.iou, other.iou) <= BACKGROUND_IOU,
    }
    error = np.select(list(cases.values()), list(cases), default="both")
    meant = np.select(
        [error == "", error == "localization", error == "classification"],
        [matched.truth, same.truth, other.truth],
        default=0,
    )
    return pd.DataFrame({"error": error, "truth": meant}, index=matched.index)


def missed_truths(errors: pd.DataFrame, ground_truth: pd.DataFrame) -> pd.Index:
    """List the ids of the ground truths that neither a right detection nor one with a wrong class
    or place is about."""
    true = ground_truth[ground_truth.iscrowd == 0]
    return pd.Index(true.id[~true.id.isin(errors.truth)])


def fix(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, errors: pd.DataFrame, error: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return detections and ground truth as if one type of error did not exist.

    A wrong class or box is put right, for the best detection of each ground truth that is not found
    yet; other detections with this error are taken out. Missed ground truths are taken out, too.
    """
    detections = detections.loc[:, ["image", "label", "score", "area", "aspect", *BOX]]
    detections = detections.reset_index(drop=True)
    if error == "missed":
        missed = missed_truths(errors, ground_truth)
        return detections, ground_truth[~ground_truth.id.isin(missed)]
    wrong = errors[errors.error == error]
    found = errors.truth[errors.error == ""]
    fixable = wrong[(wrong.truth > 0) & ~wrong.truth.isin(found)]
    best_first = detections.score[fixable.index].sort_values(ascending=False, kind="stable").index
    fixable = fixable.loc[best_first].drop_duplicates("truth")
    true = ground_truth.set_index("id").loc[fixable.truth]
    columns = ["label"] if error == "classification" else BOX
    detections.loc[fixable.index, columns] = true[columns].to_numpy()
    return detections.drop(wrong.index.difference(fixable.index)), ground_truth


def error_costs(detections: pd.DataFrame, ground_truth: pd.DataFrame, **options) -> pd.DataFrame:
    """Count the errors of each type, as "count", and measure as "dAP50" by how many points AP50
    rises when the type alone is fixed.

    Args:
        options: ``images`` and ``num_classes`` of :func:`~.coco_evaluation.evaluate`.
    """
    options |= {"iou_thresholds": [FOREGROUND_IOU]}
    result = evaluate(ground_truth, detections, **options)
    before = mean_precision(result)
    errors = label_errors(detections, ground_truth, matches(result))
    counts = errors.error.value_counts().to_dict()
    counts["missed"] = len(missed_truths(errors, ground_truth))
    rows = {}
    for error in ERRORS:
        found, true = fix(detections, ground_truth, errors, error)
        after = mean_precision(evaluate(true, found, **options))
        rows[error] = {"count": counts.get(error, 0), "dAP50": 100 * (after - before)}
    return pd.DataFrame.from_dict(rows, orient="index")


def _figure(costs: list[pd.DataFrame], runs: list[Run]) -> Figure:
    figure, ((axis,),) = new_figure(1, 1, height=3.0)
    bars = {run.name: x.dAP50.tolist() for run, x in zip(runs, costs, strict=True)}
    draw_bars(axis, bars, list(ERRORS))
    axis.set_ylabel("rise of AP50 (points)")
    axis.margins(y=0.12)
    axis.legend(loc="best")
    counts = " and ".join(f"{len(x.detections)} of {x.name}" for x in runs)
    return Figure(
        figure_uri(figure),
        "By how many points AP50 would rise if one type of error alone did not exist. "
        f"{len(runs[0].dataset.truths)} objects; detections: {counts}.",
        "Bar chart of the cost of each type of error",
    )


def _table(name: str, costs: pd.DataFrame) -> Table:
    costs = costs.rename(columns={"dAP50": "AP50 cost"})
    costs.insert(0, "what it is", pd.Series(ERRORS))
    caption = (
        f"How many errors of each type there are among all detections of {name}, whatever their "
        "score, and their cost in points of AP50."
    )
    return make_table(costs, caption, name="error", digits={"count": 0})


def section(runs: list[Run]) -> Section:
    """Show error types after TIDE, how many there are and what they cost."""
    dataset = runs[0].dataset
    costs = [error_costs(x.detections, dataset.ground_truth, **dataset.options) for x in runs]
    text = [
        "The error types of TIDE (Bolya et al. 2020), with its thresholds: a match needs an IoU "
        "of 0.5, and below 0.1 a detection is about nothing. The cost of a type is the rise of "
        "AP50 when it alone is put right: the class or the box corrected, or the detection or "
        "missed object taken out. Costs do not add up, and a detection with a low score counts "
        "as much as any other but costs little.",
    ]
    tables = [_table(run.name, x) for run, x in zip(runs, costs, strict=True)]
    return Section("errors", TITLE, text, [_figure(costs, runs), *tables])
