"""What kinds of errors are made, and what each of them costs."""

import pandas as pd

from ..error_types import ERRORS, error_costs
from ..page import Figure, Section, Table, make_table
from ..plots import draw_bars, figure_uri, new_figure
from ..study import Measurement, Study

TITLE = "What kinds of errors are made?"


def _costs(measurement: Measurement) -> pd.DataFrame:
    dataset = measurement.dataset
    return error_costs(measurement.run.detections, dataset.ground_truth, **dataset.options)


def _figure(costs: dict[str, pd.DataFrame], study: Study) -> Figure:
    figure, axes = new_figure(1, 1, height=3.0)
    draw_bars(axes[0, 0], {run: x.dAP50.tolist() for run, x in costs.items()}, list(ERRORS))
    axes[0, 0].set_ylabel("rise of AP50 (points)")
    axes[0, 0].margins(y=0.12)
    axes[0, 0].legend(loc="best")
    counts = " and ".join(f"{len(x.run.detections)} of {x.name}" for x in study.both)
    return Figure(
        figure_uri(figure),
        "By how many points AP50 would rise if one type of error alone did not exist. "
        f"{len(study.dataset.truths)} objects; detections: {counts}.",
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


def section(study: Study) -> Section:
    """Error types after TIDE, how many there are and what they cost."""
    costs = {x.name: _costs(x) for x in study.both}
    text = [
        "The error types of TIDE (Bolya et al. 2020), with its thresholds: a match needs an IoU "
        "of 0.5, and below 0.1 a detection is about nothing. The cost of a type is the rise of "
        "AP50 when it alone is put right: the class or the box corrected, or the detection or "
        "missed object taken out. Costs do not add up, and a detection with a low score counts "
        "as much as any other but costs little.",
    ]
    tables = [_table(run, of_run) for run, of_run in costs.items()]
    return Section("errors", TITLE, text, [_figure(costs, study), *tables])
