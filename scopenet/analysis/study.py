"""A data set, one or two detectors run on it, and what several sections want to know of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .calibration import score_quality, true_ious
from .coco_evaluation import evaluate, matches
from .curves import best_thresholds, curves
from .object_shapes import summary
from .run import Run


@dataclass(frozen=True)
class Dataset:
    """The labelled images that are looked at.

    Attributes:
        name: Detectron2 knows the data set by it.
        size: images of the whole data set.
        dicts: those that are looked at, in Detectron2's format.
        ground_truth: their boxes, see :mod:`scopenet.analysis`.
        class_names: by label.
    """

    name: str
    size: int
    dicts: Sequence[dict]
    ground_truth: pd.DataFrame
    class_names: Sequence[str]

    @property
    def options(self) -> dict[str, Any]:
        """Of :func:`~.coco_evaluation.evaluate`."""
        images = [x["image_id"] for x in self.dicts]
        return {"images": images, "num_classes": len(self.class_names)}

    @cached_property
    def truths(self) -> pd.DataFrame:
        """The ground truth without crowds."""
        return self.ground_truth[self.ground_truth.iscrowd == 0]


@dataclass(frozen=True)
class Measurement:
    """Figures of one run, each calculated when it is first asked for."""

    run: Run
    dataset: Dataset

    @property
    def name(self) -> str:
        return self.run.name

    @cached_property
    def true_ious(self) -> np.ndarray:
        return true_ious(self.run.detections, self.dataset.ground_truth)

    @cached_property
    def summary(self) -> pd.Series:
        return summary(self.run.detections, self.dataset.ground_truth, **self.dataset.options)

    @cached_property
    def score_quality(self) -> pd.DataFrame:
        detections, truth = self.run.detections, self.dataset.ground_truth
        scores = self.run.score_columns
        return score_quality(detections, truth, self.true_ious, scores, **self.dataset.options)

    @cached_property
    def matched(self) -> pd.DataFrame:
        """At IoU 0.5, see :func:`~.coco_evaluation.matches`."""
        options = self.dataset.options | {"iou_thresholds": [0.5]}
        return matches(evaluate(self.dataset.ground_truth, self.run.detections, **options))

    @cached_property
    def curves(self) -> dict[int | str, pd.DataFrame]:
        return curves(self.run.detections, self.matched, self.dataset.ground_truth)

    @cached_property
    def best_thresholds(self) -> pd.DataFrame:
        return best_thresholds(self.curves)


@dataclass(frozen=True)
class Study:
    """What the page is about.

    Attributes:
        main: the detector.
        other: another one to compare it with, or None.
    """

    dataset: Dataset
    main: Measurement
    other: Measurement | None = None

    @property
    def both(self) -> list[Measurement]:
        return [x for x in (self.main, self.other) if x]
