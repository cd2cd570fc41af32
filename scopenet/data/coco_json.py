"""Reading a COCO json that somebody else has written, and leaving out what cannot be trained on.

Boxes are COCO's XYWH in px of the image file, x and y of the top left corner.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import count
from os import PathLike
from typing import Any

from detectron2.utils.file_io import PathManager
from pycocotools import mask as masks

from ..errors import ConfigError

Json = dict[str, Any]  # an object of the file, or all of it
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


def parse_json(path: str | PathLike) -> Json:
    """Read a json in COCO's annotation format, whatever stands in its entries; another file, or
    none, is a ConfigError."""
    try:
        with open(PathManager.get_local_path(path), encoding="utf-8") as f:
            content = json.load(f)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not json: {str(error).splitlines()[0]}.") from error
    if isinstance(content, list):
        raise ConfigError(f"{path} holds a list, as of detections, and no {', '.join(REQUIRED)}.")
    for part in REQUIRED:
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(x, dict) for x in entries):
            raise ConfigError(
                f'{path} is not in COCO\'s annotation format: it has no list of objects "{part}".'
            )
    for part in ("categories", "images"):
        if not content[part]:
            raise ConfigError(f"{path} names no {part}; each has {', '.join(REQUIRED[part])}.")
    return content


def read_coco_json(path: str | PathLike) -> Json:
    """Read a json in COCO's annotation format and look whether all entries can be understood."""
    content = parse_json(path)
    check_entries(content, str(path))
    return content


def check_entries(content: Json, name: str) -> None:
    """Look whether all entries can be understood, if not used: a missing field, categories that
    repeat an id or a name, and ids that cannot be ordered are a ConfigError."""
    fields, annotations = REQUIRED["annotations"], content["annotations"]
    # Of these there are far more than of anything else, so a quicker look comes first.
    are_integers = {type(x.get(k)) for k in fields for x in annotations} <= {int}
    for part in ("images", "categories") if are_integers else REQUIRED:
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


def missing_fields(entry: Json, part: str) -> list[str]:
    """List the fields of ``REQUIRED`` that an entry does not have, or not such as can be used."""
    return [field for field in REQUIRED[part] if not is_given(entry.get(field), field)]


def repeated(entries: list[Json], field: str) -> dict[Any, int]:
    """Count how often each value of a field is given that more than one entry has."""
    counts = Counter(x[field] for x in entries if is_given(x.get(field), field))
    return {value: times for value, times in counts.items() if times > 1}


def is_given(value: Any, field: str) -> bool:
    """Tell whether ``value`` can stand in ``field`` of an entry, see ``REQUIRED``."""
    if field in ("width", "height"):
        return is_number(value) and value >= 1
    is_text = field in ("file_name", "name")
    if type(value) is int:  # nearly always
        return not is_text
    if isinstance(value, str):
        # Half of a surrogate pair can be written in json, but nowhere else.
        return (not is_text or value != "") and not any("\ud800" <= x <= "\udfff" for x in value)
    return False


def is_number(value: Any) -> bool:
    """Tell whether ``value`` can be a length in px: a number, neither NaN nor beyond measure."""
    # A tuple of types: this is asked millions of times, and a union takes longer.
    return isinstance(value, (float, int)) and -1e9 < value < 1e9 and not isinstance(value, bool)


def classes_of(content: Json) -> dict[Any, str]:
    """Return the names by category ids, sorted by these, as Detectron2 counts the classes."""
    # Numbers first: a json that is only checked may have ids of both types.
    categories = sorted(content["categories"], key=lambda x: (isinstance(x["id"], str), x["id"]))
    return {x["id"]: x["name"] for x in categories}


def find_box(annotation: Json) -> Any:
    """Return "bbox" or else what encloses the segmentation: anything, see :func:`box_problem`, and
    None if there is nothing."""
    if annotation.get("bbox"):
        return annotation["bbox"]
    segmentation: Any = annotation.get("segmentation")
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
    """Raise a ValueError where pycocotools would divide by zero or read beyond the end of a mask,
    which ends the process."""
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


def clean(content: Json, unusable: dict[Any, str] | None = None) -> tuple[Json, Counter[str]]:
    """Copy what can be used of a parsed json, without the images whose ids and reasons are in
    ``unusable``, and count by reason what is left out.

    An annotation that is kept has a box inside of its image, an area, ``iscrowd``, and an id of its
    own.
    """
    complete = complete_entries(content)
    cleaned, dropped = clean_complete(content | complete, unusable)
    missing = sum(len(content[x]) - len(complete[x]) for x in REQUIRED)
    return cleaned, +(dropped + Counter({"missing field": missing}))


def clean_complete(
    content: Json, unusable: dict[Any, str] | None = None
) -> tuple[Json, Counter[str]]:
    """Do what :func:`clean` does, of a json whose entries have all fields of ``REQUIRED``."""
    unusable = unusable or {}
    dropped: Counter[str] = Counter()
    images: dict[Any, dict] = {}
    for image in content["images"]:
        if image["id"] in unusable:
            dropped[unusable[image["id"]]] += 1
        elif image["id"] in images:
            dropped["repeated image id"] += 1
        else:
            images[image["id"]] = image
    kept = []
    for annotation, image, box, problem in inspected(content):
        if annotation["image_id"] in unusable:
            problem = "box of an image that is left out"
        if problem:
            dropped[problem] += 1
        elif image:
            kept.append(annotation | _usual_fields(annotation, image, box))
    _number_anew(kept)
    return content | {"images": [*images.values()], "annotations": kept}, dropped


def complete_entries(content: Json) -> dict[str, list[Json]]:
    """Keep the entries that have all fields of ``REQUIRED``, by part."""
    return {part: [x for x in content[part] if not missing_fields(x, part)] for part in REQUIRED}


def inspected(complete: dict[str, list[Json]]) -> Iterator[tuple[Json, Json | None, Any, str]]:
    """Yield each annotation with its image, what it has as its box, and what keeps it from being
    used; "" if nothing does."""
    images = {x["id"]: x for x in reversed(complete["images"])}  # the first one of an id
    categories = {x["id"] for x in complete["categories"]}
    for annotation in complete["annotations"]:
        image, box = images.get(annotation["image_id"]), find_box(annotation)
        if image is None:
            problem = "unknown image id"
        elif annotation["category_id"] not in categories:
            problem = "unknown category id"
        else:
            problem = box_problem(box, image["width"], image["height"])
        yield annotation, image, box, problem


def _usual_fields(annotation: dict, image: dict, box: list[float]) -> Json:
    x, y, width, height = box
    if x < 0 or y < 0 or x + width > image["width"] or y + height > image["height"]:
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, image["width"]), min(y + height, image["height"])
        box = [left, top, right - left, bottom - top]
    area: Any = annotation.get("area")
    return {
        "bbox": box,
        "area": area if is_number(area) and area > 0 else box[2] * box[3],
        "iscrowd": int(annotation.get("iscrowd") in (1, True)),
    }


def _number_anew(annotations: list[Json]) -> None:
    """Change the ids that repeat or that COCOeval cannot work with."""
    ids = {x["id"] for x in annotations if isinstance(x["id"], int) and abs(x["id"]) < MAX_ID}
    unused = count(1 + max([0, *ids]))
    ids.discard(0)  # COCOeval takes it for "not matched"
    for annotation in annotations:
        if annotation["id"] not in ids:
            annotation["id"] = next(unused)
        ids.discard(annotation["id"])
