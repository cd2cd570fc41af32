"""What is wrong with the image files."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detectron2.data.detection_utils import read_image
from PIL import Image
from tqdm import tqdm

from ...images import orientation_of, reason_of
from ...processes import available_cores
from .findings import Finding

# Of PIL's modes. Training reads all as 8-bit RGB, for which 16 bits are cut off.
_MODES = {"CMYK": "CMYK image", "L": "greyscale image", "1": "greyscale image"}
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


def check_images(images: Sequence[dict[str, Any]], folder: str) -> list[Finding]:
    """Look at all files once, with a progress bar.

    Args:
        images: entries of the json with "id", "file_name" and, where known, "width" and "height".
        folder: where their file names start.
    """
    with ThreadPoolExecutor(available_cores()) as pool:
        found = pool.map(lambda image: list(check_image(image, folder)), images)
        return [x for some in tqdm(found, "Images", len(images)) for x in some]


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
        detail = (
            f"orientation {orientation}: training turns the image, boxes must be of the turned one"
        )
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
