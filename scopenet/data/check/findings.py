"""What is wrong with the entries of a json, and with the image files that they name."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from reprlib import repr as short
from typing import Any, NamedTuple

from detectron2.data.detection_utils import read_image
from PIL import Image
from tqdm import tqdm

from ...images import check_image_file, orientation_of, reason_of
from ...processes import available_cores
from .. import coco_json

# Kinds that training copes with as they are, and that may be meant: what remains is an error.
NOTES = {
    *("wrong suffix", "EXIF rotation", "CMYK image", "greyscale image", "image with alpha"),
    *("image without boxes", "category never used", "box partly outside of the image"),
}
# Kinds because of which an image is left out.
UNUSABLE = {
    *("missing file", "empty file", "truncated file", "unreadable file"),
    *("other size", "too narrow image"),
    *("image of both sets", "near copy of an image of the other set"),
}
# Of PIL's modes. Training reads all as 8-bit RGB, for which 16 bits are cut off.
_MODES = {"CMYK": "CMYK image", "L": "greyscale image", "1": "greyscale image"}
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


class Finding(NamedTuple):
    """One thing that was found.

    ``file`` is the json or an image, ``id`` that of the entry of ``part`` ("images", "annotations"
    or "categories") it concerns, None where there is none.
    """

    kind: str
    file: str
    part: str
    id: Any
    detail: str = ""

    @property
    def severity(self) -> str:
        """Say "error" where training would leave something out or misread it, else "note"."""
        return "note" if self.kind in NOTES else "error"


def check_annotations(content: dict[str, Any], file: str) -> Iterator[Finding]:
    """Find what is wrong in the json itself, in what was parsed of ``file``."""
    for part in coco_json.REQUIRED:
        yield from _check_fields(content[part], part, file)
    complete = coco_json.complete_entries(content)
    yield from _check_boxes(complete, file)
    labelled, used = ({x[k] for x in complete["annotations"]} for k in ("image_id", "category_id"))
    for x in complete["images"]:
        if x["id"] not in labelled:
            yield Finding("image without boxes", x["file_name"], "images", x["id"])
    for x in complete["categories"]:
        if x["id"] not in used:
            yield Finding("category never used", file, "categories", x["id"], x["name"])


def _check_fields(entries: list[dict], part: str, file: str) -> Iterator[Finding]:
    for i, entry in enumerate(entries):
        for field in coco_json.missing_fields(entry, part):
            number = entry.get("id")
            number = short(number) if isinstance(number, list | dict) else number
            yield Finding("missing field", file, part, number, f"entry {i} has no usable {field}")
    for field in ("id", "name") if part == "categories" else ("id",):
        for value, times in coco_json.repeated(entries, field).items():
            yield Finding(f"duplicate {field}", file, part, value, f"{times} times")


def _check_boxes(complete: dict[str, list[dict]], file: str) -> Iterator[Finding]:
    for annotation, image, box, problem in coco_json.inspected(complete):
        if problem.startswith("unknown"):
            detail = str(annotation["category_id" if image else "image_id"])
        elif problem:
            detail = short(box)
        elif image and coco_json.reaches_out(box, image["width"], image["height"]):
            problem = "box partly outside of the image"
            detail = f"{box} in {image['width']}x{image['height']}"
        else:
            continue
        where = image["file_name"] if image else file
        yield Finding(problem, where, "annotations", annotation["id"], detail)


def check_images(images: Sequence[dict[str, Any]], folder: str) -> list[Finding]:
    """Look once, with a progress bar, at the files in ``folder`` that entries of the json name."""
    return [x for some in over_files(lambda x: [*check_image(x, folder)], images) for x in some]


def over_files(look: Callable[[dict[str, Any]], Any], images: Sequence[dict[str, Any]]) -> list:
    """Call ``look``, in threads and with a progress bar, for every entry that names a file."""
    fields = ("id", "file_name")
    named = [x for x in images if all(coco_json.is_given(x.get(k), k) for k in fields)]
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(tqdm(pool.map(look, named), "Images", len(named)))


def check_image(image: dict[str, Any], folder: str) -> Iterator[Finding]:
    """Say everything there is to say of one file; of an unreadable one only why it is."""
    path = os.path.join(folder, image["file_name"])

    def finding(kind: str, detail: str = "") -> Finding:
        return Finding(kind, image["file_name"], "images", image["id"], detail)

    if not os.path.isfile(path):
        yield finding("missing file", path)
        return
    if os.path.getsize(path) == 0:
        yield finding("empty file")
        return
    try:
        with open(path, "rb") as f:
            check_image_file(f)
        with Image.open(path) as opened:
            kind, mode = opened.format, opened.mode
            orientation = orientation_of(opened)
        height, width = read_image(path, format="RGB").shape[:2]
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        reason = reason_of(error)
        yield finding("truncated file" if "truncated" in reason else "unreadable file", reason)
        return
    suffix = os.path.splitext(path)[1].lower()
    if Image.registered_extensions().get(suffix) != kind:
        yield finding("wrong suffix", f"{kind} in {suffix or 'a file without one'}")
    if orientation not in (0, 1):
        detail = f"orientation {orientation}: boxes must be of the image as training turns it"
        yield finding("EXIF rotation", detail)
    if mode.startswith(("I", "F")):
        yield finding("16-bit image", f"mode {mode}: training cuts values off at 255")
    elif mode in _MODES:
        yield finding(_MODES[mode])
    elif mode in _ALPHA:
        yield finding("image with alpha", f"mode {mode}: training ignores it")
    named = image.get("width"), image.get("height")
    if None not in named and named != (width, height):
        turned = ", as without its EXIF rotation" * (named == (height, width) and orientation > 4)
        yield finding("other size", f"json {named[0]}x{named[1]}, file {width}x{height}{turned}")
