"""What cannot be trained on of any data set in Detectron2's format: boxes that would turn the loss
to NaN, and images that cannot be read."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import BinaryIO

from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..images import check_image_file, reason_of
from .coco_json import box_problem

# Under this key a sample names the files that cannot be read, and why.
UNREADABLE = "unreadable_images"
# Images whose sides differ more may have nothing left of the shorter one when they are resized.
MAX_RATIO = 100
# What readers of images raise, of a file that is missing, damaged or of another size.
READING_ERRORS = (OSError, EOFError, SyntaxError, ValueError)
Mapper = Callable[[dict], dict]  # such as Detectron2's DatasetMapper
_MODES = (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)  # others have no px or no four numbers


def drop_unusable_boxes(dicts: Sequence[dict]) -> list[dict]:
    """Copy dicts without the boxes that cannot be trained on; the log counts these."""
    dropped: Counter[str] = Counter()
    kept = []
    for sample in dicts:
        annotations = sample.get("annotations", [])
        problems = [_problem_of_box(x, sample) for x in annotations]
        if any(problems):
            dropped.update(filter(None, problems))
            usable = [x for x, p in zip(annotations, problems, strict=True) if not p]
            sample = sample | {"annotations": usable}
        kept.append(sample)
    for problem, number in dropped.items():
        logging.getLogger(__name__).warning(f"{number} annotations left out: {problem}.")
    return kept


def report_empty(dicts: Sequence[dict]) -> None:
    """Say in the log how many images have no objects, crowds aside."""
    number = sum(all(x.get("iscrowd") for x in sample.get("annotations", [])) for sample in dicts)
    if number:
        logging.getLogger(__name__).info(
            f"{number} of {len(dicts)} images have no objects, and are trained on as such "
            "(DATALOADER.FILTER_EMPTY_ANNOTATIONS True leaves them out)."
        )


def _problem_of_box(annotation: dict, sample: dict) -> str:
    mode = annotation.get("bbox_mode")
    if mode not in _MODES:
        return ""
    box = [*map(float, annotation["bbox"])]
    if mode == BoxMode.XYXY_ABS and len(box) == 4:
        box = BoxMode.convert(box, mode, BoxMode.XYWH_ABS)
    return box_problem(box, sample["width"], sample["height"])


def map_image(sample: dict, mapper: Mapper) -> dict:
    """Map a sample; of one whose file is unreadable return nothing but that, as ``UNREADABLE``."""
    path = sample.get("file_name")
    with opened(path) or nullcontext() as file:
        try:
            if file:
                check_image_file(file)
            return mapper(sample)
        except Exception as error:
            if file:
                problem = unreadable_image(sample)
            else:
                problem = reason_of(error) if path and isinstance(error, READING_ERRORS) else ""
            if not problem:  # it is something else that went wrong
                raise
            return {UNREADABLE: {path: problem}}


def opened(path: str | None) -> BinaryIO | None:
    """Open a file as Detectron2 does; return None for what only a mapper may know how to read, such
    as a file in an archive."""
    try:
        return PathManager.open(path, "rb")
    except Exception:  # handlers of addresses raise anything
        return None


def unreadable_image(sample: dict) -> str:
    """Say why the file of a sample cannot be trained on; "" if it can.

    To be asked when it was not mapped: an image that is too narrow may still be large enough.
    """
    try:
        with PathManager.open(sample["file_name"], "rb") as f:
            check_image_file(f)
        image = read_image(sample["file_name"], format="BGR")
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        return reason_of(error)
    height, width = image.shape[:2]
    named = sample.get("width", width), sample.get("height", height)
    if named != (width, height):
        return f"{width}x{height} px instead of {named[0]}x{named[1]}"
    if max(height, width) > MAX_RATIO * min(height, width):
        return f"{width}x{height} px, too narrow to be resized"
    return ""
