"""Whether two detectors find the same in an image."""

from dataclasses import dataclass

import numpy as np
from detectron2.structures import Instances, pairwise_iou

SCORE_THRESH = 0.1  # detections below need no counterpart
MIN_IOU = 0.9
# Of float32, where only the order of additions differs.
MAX_BOX_DIFFERENCE = 0.5  # px
MAX_SCORE_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How much of what two detectors find is the same.

    Attributes:
        detections: above ``SCORE_THRESH``, of both detectors.
        matched: those with a counterpart in the other detector's.
        max_box_difference: between counterparts, px.
        max_score_difference: between counterparts, of any of their scores.
    """

    detections: int = 0
    matched: int = 0
    max_box_difference: float = 0.0
    max_score_difference: float = 0.0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.detections + other.detections,
            self.matched + other.matched,
            max(self.max_box_difference, other.max_box_difference),
            max(self.max_score_difference, other.max_score_difference),
        )

    @property
    def share(self) -> float:
        return self.matched / self.detections if self.detections else 1.0


def _counterparts(expected: Instances, found: Instances) -> list[tuple[int, int]]:
    """Pair detections of one class with an IoU of at least ``MIN_IOU``, one to one, best first."""
    ious = pairwise_iou(expected.pred_boxes, found.pred_boxes)
    ious[expected.pred_classes[:, None] != found.pred_classes] = 0
    pairs, is_free = [], np.ones(len(found), bool)
    for i, row in enumerate(ious.numpy()):
        candidates = np.where(is_free, row, 0)
        if candidates.size and candidates.max() >= MIN_IOU:
            pairs.append((i, int(candidates.argmax())))
            is_free[pairs[-1][1]] = False
    return pairs


def _differences(expected: Instances, found: Instances, i: int, j: int) -> tuple[float, float]:
    """Return the largest between two counterparts, of the boxes in px and of the scores."""
    boxes = expected.pred_boxes.tensor[i] - found.pred_boxes.tensor[j]
    names = ("scores", "cls_scores", "loc_scores", "border_scores")
    scores = (expected.get(x)[i] - found.get(x)[j] for x in names)
    return boxes.abs().max().item(), max(x.abs().max().item() for x in scores)


def compare(expected: Instances, found: Instances, *, precision: str) -> Agreement:
    """Compare the detections of one image.

    A counterpart may itself score a little less than ``SCORE_THRESH``; in float32 it must be nearly
    the same box with nearly the same scores.
    """
    agreement = Agreement(sum((x.scores > SCORE_THRESH).sum().item() for x in (expected, found)))
    for i, j in _counterparts(expected, found):
        counted = sum(x > SCORE_THRESH for x in (expected.scores[i], found.scores[j]))
        boxes, scores = _differences(expected, found, i, j)
        is_same = boxes <= MAX_BOX_DIFFERENCE and scores <= MAX_SCORE_DIFFERENCE
        if counted and (is_same or precision != "float32"):
            agreement += Agreement(0, int(counted), boxes, scores)
    return agreement
