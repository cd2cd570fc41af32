"""Is a border that is 90 % sure right nine times in ten, and are its expected errors what errors
are?"""

import numpy as np
import pandas as pd

from ..modeling import ScopeNet
from ..modeling.border_errors import RIGHT
from .calibration import FOUND_IOU
from .dataset import BOX
from .page import Block, Figure, Section, Table, number
from .plots import BLUE, figure_uri, new_figure
from .run import BORDER_SCORES, BORDER_STDS, Run

TITLE = "Are sure borders right?"
INTERVALS = np.linspace(0, 1, 11)  # of the confidence


def found_borders(run: Run) -> pd.DataFrame:
    """List the borders of the detections that are about an object, one row each: ``confidence``;
    ``error`` in px, absolute; ``is_right``, off by at most ``RIGHT`` of the box's side; ``std`` in
    px, where the detector has learned it."""
    best = run.best_overlaps(same_class=True)
    found = run.detections[run.true_ious >= FOUND_IOU]
    truths = run.dataset.truths.set_index("id").loc[best.truth[found.index], BOX]
    boxes = found[BOX].to_numpy()
    errors = np.abs(boxes - truths.to_numpy())
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    columns = {
        "confidence": found[BORDER_SCORES],
        "error": errors,
        "is_right": errors <= RIGHT * sides,
    }
    if set(BORDER_STDS) <= set(found):
        columns["std"] = found[BORDER_STDS]
    return pd.DataFrame({name: np.ravel(x) for name, x in columns.items()})


def reliability(borders: pd.DataFrame) -> pd.DataFrame:
    """Average over each of ``INTERVALS`` that has borders: "confidence", the share that "is_right",
    and "count"."""
    interval = np.digitize(borders.confidence, INTERVALS[1:-1])
    parts = borders.groupby(interval)
    return pd.DataFrame(
        {
            "confidence": parts.confidence.mean(),
            "is_right": parts.is_right.mean(),
            "count": parts.size(),
        }
    )


def calibration_error(borders: pd.DataFrame) -> float:
    """Return the expected calibration error, in [0, 1]: the mean over borders of how far the
    confidence of their interval is from the share that is right in it."""
    table = reliability(borders)
    gaps = (table.confidence - table.is_right).abs()
    return float((gaps * table["count"]).sum() / table["count"].sum())


def coverage(borders: pd.DataFrame) -> dict[str, float]:
    """Return the shares of borders, in percent, off by at most one and by at most two of their
    standard deviations."""
    return {f"± {k}": 100 * (borders.error <= k * borders["std"]).mean() for k in (1, 2)}


def _figure(run: Run, borders: pd.DataFrame) -> Figure:
    table = reliability(borders)
    figure, axes = new_figure(1, 2, width=8.4, height=3.6)
    curve, counts = axes[0]
    curve.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as sure as right")
    curve.plot(table.confidence, table.is_right, color=BLUE, marker="o", label=run.name)
    curve.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    curve.legend(loc="upper left")
    counts.hist(borders.confidence, bins=INTERVALS, color=BLUE)
    counts.set(xlim=(0, 1), xlabel="confidence", ylabel="borders")
    caption = (
        f"Reliability of the confidences of {len(borders)} borders, those of the detections with "
        f"an IoU of at least {FOUND_IOU}, in ten intervals. Right is a border that is off by at "
        f"most {RIGHT:.0%} of the box's side."
    )
    return Figure(figure_uri(figure), caption, "Share of right borders against their confidence")


def _text(run: Run) -> list[str]:
    if run.model.error_weights is not None:
        return [
            "The confidence of a border is here the probability that it is right, learned from how "
            "the probability is spread over its bins; where the curve is on the dashed line it "
            "holds."
        ]
    return [
        "The confidence of a border is the probability of its bin, as in the paper. That is not "
        "the probability to be near the true border, and need not be on the dashed line; "
        "MODEL.SCOPENET.BORDER_ERRORS learns one that is."
    ]


def section(runs: list[Run]) -> Section:
    """Show the reliability of the borders' confidences, and the coverage of expected errors."""
    run, model = runs[0], runs[0].model
    if not isinstance(model, ScopeNet) or (model.num_bins == 1 and model.error_weights is None):
        what = f"{run.name} has no confidences of borders"
        return Section("sure", TITLE, missing=f"Left out: {what}.")
    borders = found_borders(run)
    if borders.empty:
        return Section("sure", TITLE, missing="Left out: nothing was found.")
    error = calibration_error(borders)
    blocks: list[Block] = [_figure(run, borders)]
    if "std" in borders:
        shares = pd.DataFrame([coverage(borders)], index=["found"])
        shares["of a Laplace distribution"] = "75.7 and 94.1"
        caption = "Borders off by at most one and two of their standard deviations, in percent."
        blocks.append(Table(shares, caption, "borders"))
    headline = (number(error, 3), "calibration error of border confidences", "")
    return Section("sure", TITLE, _text(run), blocks, headlines=[headline])
