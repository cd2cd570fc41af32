"""What kinds of errors there are and what each costs: TIDE (Bolya et al. 2020,
https://arxiv.org/abs/2008.08115).

The authors' package ``tidecv`` had its last release in 2020 and asks for plotting libraries of its
own, so its definitions stand here; matching and AP are COCO's. The figures are those of tidecv
1.0.1 but for one: where a misplaced and a misclassified detection are about the same object, tidecv
puts only the one with the higher score right, whichever of the two types is looked at.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from .coco_evaluation import evaluate, mean_precision
from .dataset import BOX
from .page import Block, Figure, Section, Table
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


# What to do about each, in a sentence.
ADVICE = {
    "classification": "give more images of the classes that are confused (the table of confusions "
    "names them), train longer, or make one class of those that look alike",
    "localization": "see in the worst images below whether labels are tight, then train longer "
    "or with larger images (INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST)",
    "both": "train longer: these detections have neither the place nor the class yet",
    "duplicate": "lower the IoU of NMS (MODEL.SCOPENET.NMS_THRESH_TEST)",
    "background": "look at the worst images below for objects that have no label, and give images "
    "without objects (DATALOADER.FILTER_EMPTY_ANNOTATIONS False trains on them)",
    "missed": "see in the section on sizes whether they are small, for which larger images help "
    "(INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST), and whether a lower threshold finds them",
}


def label_errors(run: Run) -> pd.DataFrame:
    """Find for each detection that counts, by row number, ``error``, one of ``ERRORS`` or "" if it
    is right, and ``truth``, the id of the ground truth it has found or should have found, or 0."""
    matched = run.matched
    same, other = (run.best_overlaps(same_class=x).loc[matched.index] for x in (True, False))
    # In the order of the authors' code: the first that holds.
    cases = {
        "": matched.truth > 0,
        "localization": same.iou.between(BACKGROUND_IOU, FOREGROUND_IOU, inclusive="left"),
        "classification": other.iou >= FOREGROUND_IOU,
        "duplicate": same.iou >= FOREGROUND_IOU,
        "background": np.maximum(same.iou, other.iou) <= BACKGROUND_IOU,
    }
    error = np.select(list(cases.values()), list(cases), default="both")
    meant = {"": matched.truth, "localization": same.truth, "classification": other.truth}
    truth = np.select([error == x for x in meant], list(meant.values()), default=0)
    return pd.DataFrame({"error": error, "truth": truth}, index=matched.index)


def missed_truths(errors: pd.DataFrame, truths: pd.DataFrame) -> pd.Index:
    """List the ids of ground truths without any right, misplaced or misclassified detection."""
    return pd.Index(truths.id[~truths.id.isin(errors.truth)])


def fix(run: Run, errors: pd.DataFrame, error: str) -> Run:
    """Return the run as if one type of error did not exist.

    A wrong class or box is put right, for the best detection of each ground truth that is not found
    yet; other detections with this error are taken out. Missed ground truths are taken out, too.
    """
    truth = run.dataset.ground_truth
    if error == "missed":
        left = truth[~truth.id.isin(missed_truths(errors, run.dataset.truths))]
        return replace(run, dataset=replace(run.dataset, ground_truth=left))
    detections = run.detections.copy()
    wrong = errors[errors.error == error].join(detections.score)
    wrong = wrong.sort_values("score", ascending=False, kind="stable")
    found = errors.truth[errors.error == ""]
    fixable = wrong[(wrong.truth > 0) & ~wrong.truth.isin(found)].drop_duplicates("truth")
    columns = ["label"] if error == "classification" else BOX
    right = truth.set_index("id").loc[fixable.truth, columns]
    detections.loc[fixable.index, columns] = right.to_numpy()
    left = detections.drop(wrong.index.difference(fixable.index))
    return replace(run, detections=left.reset_index(drop=True))


def error_costs(run: Run) -> pd.DataFrame:
    """Count the errors of each type, as "count", and measure as "dAP50" by how many points AP50
    rises when the type alone is fixed."""

    def ap50(run: Run) -> float:
        result = evaluate(run.dataset, run.detections, iou_thresholds=[FOREGROUND_IOU])
        return 100 * mean_precision(result)

    errors, before = label_errors(run), ap50(run)
    costs = {error: ap50(fix(run, errors, error)) - before for error in ERRORS}
    table = pd.DataFrame({"count": errors.error.value_counts(), "dAP50": pd.Series(costs)})
    table.loc["missed", "count"] = len(missed_truths(errors, run.dataset.truths))
    return table.loc[list(ERRORS)].fillna({"count": 0}).astype({"count": int})


def _figure(costs: list[pd.DataFrame], runs: list[Run]) -> Figure:
    figure, ((axis,),) = new_figure(1, 1, height=3.0)
    bars = {run.name: x.dAP50 for run, x in zip(runs, costs, strict=True)}
    draw_bars(axis, pd.DataFrame(bars), list(ERRORS))
    axis.set_ylabel("rise of AP50 (points)")
    axis.legend(loc="best")
    counts = " and ".join(f"{len(x.detections)} of {x.name}" for x in runs)
    caption = (
        "By how many points AP50 would rise if one type of error alone did not exist. "
        f"{len(runs[0].dataset.truths)} objects; detections: {counts}."
    )
    return Figure(figure_uri(figure), caption, "Bar chart of the cost of each type of error")


def verdict(costs: pd.DataFrame, num_objects: int) -> list[str]:
    """Say in three sentences what costs most AP50, by how much, and what to do."""
    if not costs.dAP50.max() > 0:
        return ["No kind of error costs any AP50 here."]
    first, second = costs.dAP50.nlargest(2).index
    number, points = costs.loc[first, "count"], costs.dAP50[first]
    is_missed = first == "missed"
    what = (
        f"missed objects: {number} of {num_objects}"
        if is_missed
        else (f"errors of the type “{first}” (a detection {ERRORS[first]}): {number} of them")
    )
    return [
        f"What costs most are {what}.",
        f"Without them AP50 would be {points:.1f} points higher; next comes “{second}” with "
        f"{costs.dAP50[second]:.1f}.",
        f"What to do: {ADVICE[first]}.",
    ]


def section(runs: list[Run]) -> Section:
    """Show error types after TIDE, how many there are and what they cost; the verdict is on the
    first run."""
    costs = [error_costs(x) for x in runs]
    text = [
        "The error types of TIDE (Bolya et al. 2020), with its thresholds: a match needs an IoU "
        "of 0.5, and below 0.1 a detection is about nothing. The cost of a type is the rise of "
        "AP50 when it alone is put right: the class or the box corrected, or the detection or "
        "missed object taken out. Costs do not add up, and a detection with a low score counts "
        "as much as any other but costs little.",
    ]
    blocks: list[Block] = [_figure(costs, runs)]
    for run, table in zip(runs, costs, strict=True):
        caption = f"The errors among all detections of {run.name}, and their cost in AP50 points."
        columns = {"what it is": ERRORS, "count": table["count"], "AP50 cost": table.dAP50}
        blocks.append(Table(pd.DataFrame(columns), caption, "error"))
    found = verdict(costs[0], len(runs[0].dataset.truths))
    return Section("errors", TITLE, text, blocks, verdict=found)
