"""What is wrong in the json itself."""

from collections import Counter
from collections.abc import Iterator
from reprlib import repr as short
from typing import Any

from ..coco_json import (
    REQUIRED,
    annotation_problem,
    find_box,
    is_given,
    reaches_out,
)
from .findings import Finding


def check_annotations(content: dict[str, Any], file: str) -> Iterator[Finding]:
    """
    Args:
        content: of :func:`~scopenet.data.coco_json.parse_json`.
        file: where it is from.
    """
    for part in REQUIRED:
        yield from _check_fields(content[part], part, file)
        yield from _check_ids(content[part], part, file)
    yield from _check_boxes(content, file)
    yield from _check_use(content, file)


def is_complete(entry: dict, part: str) -> bool:
    """Whether the entry has all fields without which nothing can be made of it."""
    return all(is_given(entry.get(field), field) for field in REQUIRED[part])


def _check_fields(entries: list[dict], part: str, file: str) -> Iterator[Finding]:
    for i, entry in enumerate(entries):
        for field in REQUIRED[part]:
            if not is_given(entry.get(field), field):
                detail, number = f"entry {i} has no usable {field}", entry.get("id")
                number = short(number) if isinstance(number, list | dict) else number
                yield Finding("missing field", file, part, number, detail)


def _check_ids(entries: list[dict], part: str, file: str) -> Iterator[Finding]:
    for field in ("id", "name") if part == "categories" else ("id",):
        counts = Counter(x[field] for x in entries if is_given(x.get(field), field))
        for value, times in counts.items():
            if times > 1:
                yield Finding(f"duplicate {field}", file, part, value, f"{times} times")


def _check_boxes(content: dict[str, Any], file: str) -> Iterator[Finding]:
    images = {x["id"]: x for x in content["images"] if is_complete(x, "images")}
    categories = {x["id"] for x in content["categories"] if is_complete(x, "categories")}
    for annotation in content["annotations"]:
        if not is_complete(annotation, "annotations"):
            continue
        number, image = annotation["id"], images.get(annotation["image_id"])
        box = find_box(annotation)
        if problem := annotation_problem(annotation, image, categories):
            what = {"unknown image id": "image_id", "unknown category id": "category_id"}
            detail = annotation[what[problem]] if problem in what else short(box)
            yield Finding(problem, image["file_name"] if image else file,
                          "annotations", number, str(detail))  # fmt: skip
        elif reaches_out(box, image["width"], image["height"]):
            detail = f"{box} in {image['width']}x{image['height']}"
            kind = "box partly outside of the image"
            yield Finding(kind, image["file_name"], "annotations", number, detail)


def _check_use(content: dict[str, Any], file: str) -> Iterator[Finding]:
    labelled = [x for x in content["annotations"] if is_complete(x, "annotations")]
    with_boxes = {x["image_id"] for x in labelled}
    used = {x["category_id"] for x in labelled}
    for image in content["images"]:
        if is_complete(image, "images") and image["id"] not in with_boxes:
            yield Finding("image without boxes", image["file_name"], "images", image["id"])
    for category in content["categories"]:
        if is_complete(category, "categories") and category["id"] not in used:
            yield Finding("category never used", file, "categories", category["id"],
                          category["name"])  # fmt: skip
