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

# The parts of the format, and the fields without which nothing can be made of their entries.
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
    """Read a json that is in COCO's annotation format, whatever stands in its entries.

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
            f"object with {', '.join(REQUIRED)}."
        )
    for part in REQUIRED:
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
    """Read a json in COCO's annotation format, all of whose entries can be understood.

    Raises:
        ConfigError: see :func:`parse_json` and :func:`check_entries`.
    """
    content = parse_json(path)
    check_entries(content, str(path))
    return content


def check_entries(content: dict[str, Any], name: str) -> None:
    """Look whether all entries can be understood; they need not be usable.

    Args:
        name: what the message begins with.

    Raises:
        ConfigError: a field is missing, category ids or names repeat, or ids cannot be ordered.
    """
    for part in REQUIRED:
        for i, entry in enumerate(content[part]):
            if missing := missing_fields(entry, part):
                raise ConfigError(
                    f'{name}: entry {i} of "{part}" has no usable {missing[0]}; '
                    "scopenet check --fix writes a copy without such entries."
                )
    for field in ("id", "name"):
        for value, times in repeated(content["categories"], field).items():
            on_a_line = " ".join(str(value).split())
            raise ConfigError(f"{name}: {times} categories have the {field} {on_a_line}.")
    for part in ("images", "categories"):
        if len({type(x["id"]) for x in content[part]}) > 1:
            raise ConfigError(f"{name}: some ids of its {part} are numbers, some are text.")


def missing_fields(entry: dict[str, Any], part: str) -> list[str]:
    """List the fields of ``REQUIRED`` that an entry does not have, or not such as can be used."""
    return [field for field in REQUIRED[part] if not is_given(entry.get(field), field)]


def repeated(entries: list[dict[str, Any]], field: str) -> dict[Any, int]:
    """Count how often each value of a field is given that more than one entry has."""
    counts = Counter(x[field] for x in entries if is_given(x.get(field), field))
    return {value: times for value, times in counts.items() if times > 1}


def is_given(value: Any, field: str) -> bool:
    """Tell whether ``value`` can stand in ``field`` of an entry, see ``REQUIRED``."""
    if field in ("width", "height"):
        return is_number(value) and value >= 1
    if field in ("file_name", "name"):
        return isinstance(value, str) and value != "" and _is_unicode(value)
    if isinstance(value, str):
        return _is_unicode(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_unicode(text: str) -> bool:
    # Half of a surrogate pair can be written in json, but nowhere else.
    return not any("\ud800" <= x <= "\udfff" for x in text)


def is_number(value: Any) -> bool:
    """Tell whether ``value`` can be a length in px: a number, neither NaN nor beyond measure."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def ordered_categories(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Sort the categories by their ids, as Detectron2 counts the classes."""
    # Numbers first: what has not been through `read_coco_json` may have ids of both types.
    return sorted(content["categories"], key=lambda x: (isinstance(x["id"], str), x["id"]))


def class_names(content: dict[str, Any]) -> list[str]:
    """List the class names in the order in which Detectron2 counts them."""
    return [x["name"] for x in ordered_categories(content)]


def class_of_category(content: dict[str, Any]) -> dict[Any, int]:
    """Number the classes from 0, by category id."""
    return {x["id"]: i for i, x in enumerate(ordered_categories(content))}


def find_box(annotation: dict[str, Any]) -> Any:
    """Return what an annotation has as its box: "bbox" or else what encloses its segmentation.

    It may be anything, see :func:`box_problem`; None if there is nothing.
    """
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
    """Look whether pycocotools can decode a mask.

    Raises:
        ValueError: it would divide by zero or read beyond the end, which ends the process.
    """
    height, width = size
    if not (type(height) is type(width) is int and 0 < height < 2**31 and 0 < width < 2**31):
        raise ValueError("size")
    if isinstance(counts, str) and not _COMPRESSED.fullmatch(counts):
        raise ValueError("counts")


def box_problem(box: Any, width: float, height: float) -> str:
    """Say what keeps a box from being trained on in an image of this size; "" if nothing does."""
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
    """Tell whether a usable box ends more than ``TOLERANCE`` outside of the image."""
    x, y, w, h = box
    return min(x, y) < -TOLERANCE or x + w > width + TOLERANCE or y + h > height + TOLERANCE


def clip_box(box: Any, width: float, height: float) -> list[float]:
    """Cut off what a usable box has outside of the image."""
    x, y, w, h = box
    left, top = max(x, 0), max(y, 0)
    return [left, top, min(x + w, width) - left, min(y + h, height) - top]


def clean(content: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """Leave out the images and annotations that cannot be used, and complete the others.

    What is kept has a box inside of its image, an area, ``iscrowd``, and an id of its own.

    Args:
        content: of :func:`read_coco_json`; not changed.

    Returns:
        the copy, and how many entries were left out for which reason.
    """
    dropped: Counter[str] = Counter()
    images: dict[Any, dict] = {}
    for image in content["images"]:
        images.setdefault(image["id"], image)
    if number := len(content["images"]) - len(images):
        dropped["repeated image id"] = number
    categories = {x["id"] for x in content["categories"]}
    # The id 0 is given away anew, too: COCOeval takes it for "not matched".
    seen, ids = {0}, [x["id"] for x in content["annotations"]]
    free = count(1 + max([0, *filter(_is_countable, ids)]))
    kept = []
    for annotation in content["annotations"]:
        image = images.get(annotation["image_id"])
        if problem := annotation_problem(annotation, image, categories):
            dropped[problem] += 1
            continue
        number = annotation["id"]
        if not _is_countable(number) or number in seen:
            number = next(free)
        seen.add(number)
        kept.append(annotation | _usual_fields(annotation, image) | {"id": number})
    return content | {"images": [*images.values()], "annotations": kept}, dropped


def _is_countable(number: Any) -> bool:
    """Tell whether COCOeval can work with an annotation of this id."""
    return isinstance(number, int) and abs(number) < MAX_ID


def _usual_fields(annotation: dict, image: dict) -> dict[str, Any]:
    box = clip_box(find_box(annotation), image["width"], image["height"])
    area = annotation.get("area")
    return {
        "bbox": box,
        "area": area if is_number(area) and area > 0 else box[2] * box[3],
        "iscrowd": int(annotation.get("iscrowd") in (1, True)),
    }


def annotation_problem(annotation: dict, image: dict | None, categories: set) -> str:
    """Say what keeps an annotation from being used; "" if nothing does.

    Args:
        image: the one it belongs to, None if there is none.
        categories: the ids.
    """
    if image is None:
        return "unknown image id"
    if annotation["category_id"] not in categories:
        return "unknown category id"
    return box_problem(find_box(annotation), image["width"], image["height"])
