"""Leaving out boxes that would turn a training to NaN, of any data set in Detectron2's format."""

import logging
from collections import Counter
from collections.abc import Sequence

from detectron2.structures import BoxMode

from .coco_json import box_problem

_MODES = (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)  # others have no px or no four numbers


def drop_unusable_boxes(dicts: Sequence[dict]) -> list[dict]:
    """Leave out the boxes that cannot be trained on; they are counted in the log.

    Neither the list nor its dicts are changed.
    """
    dropped: Counter[str] = Counter()
    kept = []
    for sample in dicts:
        annotations = sample.get("annotations", [])
        problems = [_problem(x, sample) for x in annotations]
        if any(problems):
            dropped.update(filter(None, problems))
            usable = [x for x, p in zip(annotations, problems, strict=True) if not p]
            sample = sample | {"annotations": usable}
        kept.append(sample)
    for problem, number in dropped.items():
        logging.getLogger(__name__).warning(f"{number} annotations left out: {problem}.")
    return kept


def _problem(annotation: dict, sample: dict) -> str:
    if annotation.get("bbox_mode") not in _MODES:
        return ""
    box = [float(x) for x in annotation["bbox"]]
    if len(box) == 4:
        box = BoxMode.convert(box, annotation["bbox_mode"], BoxMode.XYWH_ABS)
    return box_problem(box, sample["width"], sample["height"])
