"""What is wrong in the json itself."""

from collections.abc import Iterator
from reprlib import repr as short
from typing import Any

from ..coco_json import (
    REQUIRED,
    annotation_problem,
    find_box,
    missing_fields,
    reaches_out,
    repeated,
)
from .findings import Finding


def check_annotations(content: dict[str, Any], file: str) -> Iterator[Finding]:
    """Find what is wrong with the entries of a json.

    Args:
        content: of :func:`~scopenet.data.coco_json.parse_json`.
        file: where it is from.
    """
    for part in REQUIRED:
        yield from _check_fields(content[part], part, file)
        yield from _check_ids(content[part], part, file)
    complete = {part: complete_entries(content, part) for part in REQUIRED}
    yield from _check_boxes(complete, file)
    yield from _check_use(complete, file)


def complete_entries(content: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """List the entries that have all fields without which nothing can be made of them."""
    return [x for x in content[part] if not missing_fields(x, part)]


def _check_fields(entries: list[dict], part: str, file: str) -> Iterator[Finding]:
    for i, entry in enumerate(entries):
        for field in missing_fields(entry, part):
            detail, number = f"entry {i} has no usable {field}", entry.get("id")
            number = short(number) if isinstance(number, list | dict) else number
            yield Finding("missing field", file, part, number, detail)


def _check_ids(entries: list[dict], part: str, file: str) -> Iterator[Finding]:
    for field in ("id", "name") if part == "categories" else ("id",):
        for value, times in repeated(entries, field).items():
            yield Finding(f"duplicate {field}", file, part, value, f"{times} times")


def _check_boxes(complete: dict[str, list[dict]], file: str) -> Iterator[Finding]:
    images = {x["id"]: x for x in complete["images"]}
    categories = {x["id"] for x in complete["categories"]}
    for annotation in complete["annotations"]:
        image, box = images.get(annotation["image_id"]), find_box(annotation)
        if problem := annotation_problem(annotation, image, categories):
            field = {"unknown image id": "image_id", "unknown category id": "category_id"}
            kind, detail = problem, short(box)
            if problem in field:
                detail = str(annotation[field[problem]])
        elif reaches_out(box, image["width"], image["height"]):
            kind = "box partly outside of the image"
            detail = f"{box} in {image['width']}x{image['height']}"
        else:
            continue
        where = image["file_name"] if image else file
        yield Finding(kind, where, "annotations", annotation["id"], detail)


def _check_use(complete: dict[str, list[dict]], file: str) -> Iterator[Finding]:
    labelled = {x["image_id"] for x in complete["annotations"]}
    used = {x["category_id"] for x in complete["annotations"]}
    for x in complete["images"]:
        if x["id"] not in labelled:
            yield Finding("image without boxes", x["file_name"], "images", x["id"])
    for x in complete["categories"]:
        if x["id"] not in used:
            yield Finding("category never used", file, "categories", x["id"], x["name"])
