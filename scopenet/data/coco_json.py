"""Reading a COCO json that somebody else has written, and leaving out what cannot be trained on.

Boxes are COCO's XYWH in px of the image file, x and y of the top left corner.
"""

import json
import re
from collections import Counter
from itertools import count
from os import PathLike
from typing import Any

from pycocotools import mask as masks

from ..errors import ConfigError

PARTS = ("images", "annotations", "categories")
REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}
# Part of a box that may lie outside of its image without a word: rounding, and corners that were
# counted as pixels.
TOLERANCE = 1.0  # px
MAX_ID = 2**53  # of an annotation; COCOeval writes its id into an array of float64
# pycocotools reads a compressed RLE without looking where it ends: the last character must be one
# that no other has to follow.
_COMPRESSED = re.compile("[0-o]*[0-O]")


def parse_json(path: str | PathLike) -> dict[str, Any]:
    """What the file holds, with the three parts of the format as lists of objects.

    Raises:
        ConfigError: there is no such file, it is not json, or not in COCO's annotation format.
    """
    try:
        with open(path, encoding="utf-8") as f:
            content = json.load(f)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not json: {str(error).splitlines()[0]}.") from error
    if isinstance(content, list):
        raise ConfigError(
            f"{path} holds a list, as a file of detections does; COCO's annotation format is an "
            f"object with {', '.join(PARTS)}."
        )
    for part in PARTS:
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(x, dict) for x in entries):
            raise ConfigError(
                f'{path} is not in COCO\'s annotation format: it has no list of objects "{part}".'
            )
    if not content["categories"]:
        raise ConfigError(f"{path} names no categories; give each class an id and a name there.")
    if not content["images"]:
        raise ConfigError(f"{path} names no images.")
    return content


def read_coco_json(path: str | PathLike) -> dict[str, Any]:
    """What the file holds, once every entry has the fields without which nothing can be made of it.

    Raises:
        ConfigError: see :func:`parse_json`; or a field is missing, category ids or names repeat, or
            ids cannot be ordered.
    """
    content = parse_json(path)
    for part, fields in REQUIRED.items():
        for i, entry in enumerate(content[part]):
            if missing := [field for field in fields if not is_given(entry.get(field), field)]:
                raise ConfigError(
                    f'{path}: entry {i} of "{part}" has no usable {missing[0]}; '
                    "check_dataset.py --fix writes a copy without such entries."
                )
    for field in ("id", "name"):
        (value, times), *_ = Counter(x[field] for x in content["categories"]).most_common(1)
        if times > 1:
            on_a_line = " ".join(str(value).split())
            raise ConfigError(f"{path}: {times} categories have the {field} {on_a_line}.")
    for part in ("images", "categories"):
        if len({type(x["id"]) for x in content[part]}) > 1:
            raise ConfigError(f"{path}: some ids of its {part} are numbers, some are text.")
    return content


def is_given(value: Any, field: str) -> bool:
    """Whether ``value`` can stand in ``field`` of an entry, see ``REQUIRED``."""
    if field in ("width", "height"):
        return is_number(value) and value >= 1
    if field in ("file_name", "name"):
        return isinstance(value, str) and value != "" and _is_unicode(value)
    if isinstance(value, str):
        return _is_unicode(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_unicode(text: str) -> bool:
    """Half of a surrogate pair can be written in json, but nowhere else."""
    return not any("\ud800" <= x <= "\udfff" for x in text)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number that can be a length in px: neither NaN nor beyond measure."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def ordered_categories(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The categories in the order of their ids, as Detectron2 counts the classes."""
    # Numbers first: what has not been through `read_coco_json` may have ids of both types.
    return sorted(content["categories"], key=lambda x: (isinstance(x["id"], str), x["id"]))


def class_names(content: dict[str, Any]) -> list[str]:
    """Names of :func:`ordered_categories`."""
    return [x["name"] for x in ordered_categories(content)]


def find_box(annotation: dict[str, Any]) -> Any:
    """The annotation's box, from the outline of its segmentation where it has no "bbox"."""
    if annotation.get("bbox"):
        return annotation["bbox"]
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, dict):
            _check_rle(segmentation["size"], segmentation["counts"])
            if isinstance(segmentation["counts"], list):
                segmentation = masks.frPyObjects(segmentation, *segmentation["size"])
            return [float(x) for x in masks.toBbox(segmentation)]
        xs = [x for polygon in segmentation for x in polygon[::2]]
        ys = [y for polygon in segmentation for y in polygon[1::2]]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    except Exception:  # no segmentation either, or nonsense, for which pycocotools raises anything
        return None


def _check_rle(size: list, counts: list | str) -> None:
    """
    Raises:
        ValueError: pycocotools would divide by zero or read beyond its end, which ends the process.
    """
    height, width = size
    if not (type(height) is type(width) is int and 0 < height < 2**31 and 0 < width < 2**31):
        raise ValueError("size")
    if isinstance(counts, str) and not _COMPRESSED.fullmatch(counts):
        raise ValueError("counts")


def box_problem(box: Any, width: float, height: float) -> str:
    """Why the network could not be trained on a box of an image of this size; "" if it could."""
    if not isinstance(box, list | tuple) or len(box) != 4:
        return "no box of four numbers"
    if not all(map(is_number, box)):
        return "box with NaN, infinity or what is no number"
    x, y, w, h = box
    if x + w <= x or y + h <= y:  # also where w or h is too small to make a difference
        return "box with a zero or negative side"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return "box outside of the image"
    return ""


def reaches_out(box: Any, width: float, height: float) -> bool:
    """Whether a usable box ends more than ``TOLERANCE`` outside of the image."""
    x, y, w, h = box
    return min(x, y) < -TOLERANCE or x + w > width + TOLERANCE or y + h > height + TOLERANCE


def clip_box(box: Any, width: float, height: float) -> list[float]:
    """The part of a usable box that is in the image."""
    x, y, w, h = box
    left, top = max(x, 0), max(y, 0)
    return [left, top, min(x + w, width) - left, min(y + h, height) - top]


def clean(content: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """A copy without the images and annotations that cannot be used; what is kept has a box inside
    of its image, an area, ``iscrowd``, and an id of its own.

    Args:
        content: of :func:`read_coco_json`; not changed.

    Returns:
        the copy, and how many entries were left out for which reason.
    """
    dropped: Counter[str] = Counter()
    images: dict[Any, dict] = {}
    for image in content["images"]:
        if image["id"] in images:
            dropped["repeated image id"] += 1
        else:
            images[image["id"]] = image
    categories = {x["id"] for x in content["categories"]}
    # The id 0 is given away anew, too: COCOeval takes it for "not matched".
    seen, free = {0}, count(1 + max_id(content["annotations"]))
    annotations = []
    for annotation in content["annotations"]:
        image = images.get(annotation["image_id"])
        if problem := annotation_problem(annotation, image, categories):
            dropped[problem] += 1
            continue
        box = clip_box(find_box(annotation), image["width"], image["height"])
        is_own = is_countable(annotation["id"]) and annotation["id"] not in seen
        number = annotation["id"] if is_own else next(free)
        seen.add(number)
        area = annotation.get("area")
        usual = {"area": area if is_number(area) and area > 0 else box[2] * box[3]}
        usual["iscrowd"] = int(annotation.get("iscrowd") in (1, True))
        annotations.append(annotation | usual | {"id": number, "bbox": box})
    return content | {"images": [*images.values()], "annotations": annotations}, dropped


def max_id(annotations: list[dict]) -> int:
    return max((x["id"] for x in annotations if is_countable(x["id"])), default=0)


def is_countable(number: Any) -> bool:
    """Whether COCOeval can work with an annotation of this id."""
    return isinstance(number, int) and abs(number) < MAX_ID


def annotation_problem(annotation: dict, image: dict | None, categories: set) -> str:
    """Why an annotation cannot be used; "" if it can.

    Args:
        image: the one it belongs to, None if there is none.
        categories: the ids.
    """
    if image is None:
        return "unknown image id"
    if annotation["category_id"] not in categories:
        return "unknown category id"
    return box_problem(find_box(annotation), image["width"], image["height"])
