"""Digits: handwritten digits drawn on crops of photographs, made from what scikit-learn ships.

The digits are the 1797 scans of `sklearn.datasets.load_digits` (Alpaydin and Kaynak, UCI, 8 x 8
pixels, 16 grey levels), the backgrounds the two photographs of `load_sample_images`. Training and
validation share neither: a scan is of one split, photographs are cut at two thirds of their width.

Box sizes vary a lot (log-uniform) and so do their aspect ratios, and every box is exact: it is the
rectangle that the glyph has been resized to. Bright Digits is a second set from the same sources
that is easier to learn: five digits only, more of them per image, neither tiny nor huge, less
distorted, and all brighter than the photographs, which are dimmed.

Letters: H, W height and width of an image or photograph; h, w of a box; all in pixels.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .builtin import CLASS_NAMES, Box, CocoSplit, Sample, dataset_root

FULL_INTENSITY = 16  # of a scan
INK = 0.15  # of full intensity: fainter rows and columns at the rim of a scan are cut off
OPAQUE = 0.75  # of full intensity: ink that hides what is under it
MIN_CONTRAST = 80  # between digit and background, in luma, of 255
LUMA = np.array([0.299, 0.587, 0.114])  # weights of R, G, B (ITU-R BT.601)
VAL_FRACTION = 0.2  # of the scans of every class
TRIES = 100  # to find a free place for one more digit

_SPLIT_KEYS = {"train": 0, "val": 1, "scans": 2}  # keep the random streams apart

_CC_BY = "https://creativecommons.org/licenses/by"
_LICENSES = (
    {"id": 1, "name": "Photographs: CC BY 2.0", "url": f"{_CC_BY}/2.0/"},
    {"id": 2, "name": "Scans: CC BY 4.0", "url": f"{_CC_BY}/4.0/"},
)


class Style(NamedTuple):
    """How hard the digits of a set are to find and to tell apart."""

    max_digits: int  # per image
    min_scale: int  # sqrt(w * h) of the smallest box, in pixels
    max_scale: float  # sqrt(w * h) of the largest box, in sides of the image
    max_log_aspect: float  # log(w / h) is between its negative and it
    bright: bool  # photographs are dimmed to half, and digits brighter than them
    classes: int  # the digits from 0 on


DIGITS = Style(6, min_scale=12, max_scale=0.6, max_log_aspect=1.0, bright=False, classes=10)
BRIGHT = Style(8, min_scale=20, max_scale=0.4, max_log_aspect=0.5, bright=True, classes=5)
STYLES = {"digits": DIGITS, "bright_digits": BRIGHT}


class Sources(NamedTuple):
    """What one split is made from."""

    glyphs: Sequence[np.ndarray]  # (rows, columns) float, ink in [0, 1], cut to the ink
    labels: Sequence[int]  # the class of each glyph
    photos: Sequence[np.ndarray]  # (H, W, 3) uint8 RGB
    style: Style = DIGITS


def prepare_digits(
    root: Path | None = None,
    *,
    dataset: str = "digits",
    train: int = 2000,
    val: int = 300,
    size: int = 160,
    seed: int = 0,
) -> list[str]:
    """Write `<root>/<dataset>`, except splits that are already there; return the names of the
    others. A ConfigError says that scikit-learn is missing, a split empty, the seed negative, or
    `size` too small for the digits or too large for the photographs.

    Args:
        root: the directory of all data sets, by default `dataset_root()`.
        dataset: one of `STYLES`.
        train, val: the number of images.
        size: the side of the square images, in pixels.
        seed: determines everything; an image does not depend on how many others there are.
    """
    if min(train, val) < 1 or seed < 0:
        given = f"{train}, {val}, {seed}"
        raise ConfigError(f"Digits needs an image in each split and a seed >= 0, not {given}.")
    folder = (root or dataset_root()) / dataset
    style = STYLES[dataset]
    counts = {"train": train, "val": val}
    splits = [_describe(folder, name, counts[name], size, seed) for name in counts]
    missing = [split for split in splits if not split.is_complete()]
    # All sources are loaded, and with them all parameters checked, before anything is written.
    sources = [load_sources(split.name, size, seed, style) for split in missing]
    for split, source in zip(missing, sources, strict=True):
        samples = generate(source, split.name, counts[split.name], size, seed)
        split.write(samples, total=counts[split.name])
    return [split.name for split in missing]


def load_sources(split: str, size: int, seed: int, style: Style = DIGITS) -> Sources:
    """Load the scans and photographs of a split (`train`, `val`) for images of `size` pixels."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        raise ConfigError(
            'Digits needs scikit-learn: pip install "scopenet[data]" brings it.'
        ) from error

    scans = load_digits()
    photos = [photo_part(photo, split) for photo in load_sample_images().images]
    smallest = math.ceil(style.min_scale / style.max_scale)
    largest = min(min(photo.shape[:2]) for photo in photos)
    if not smallest <= size <= largest:
        raise ConfigError(f"The size of a {split} image is {smallest} to {largest} px, not {size}.")
    indices = split_scans(scans.target, split, seed)
    indices = indices[scans.target[indices] < style.classes]
    glyphs = [crop_to_ink(scans.images[i] / FULL_INTENSITY) for i in indices]
    if style.bright:
        photos = [photo // 2 for photo in photos]
    return Sources(glyphs, [int(scans.target[i]) for i in indices], photos, style)


def photo_part(photo: np.ndarray, split: str) -> np.ndarray:
    """Cut a photograph (H, W, 3): the left two thirds are for `train`, the rest for `val`."""
    border = photo.shape[1] * 2 // 3
    return photo[:, :border] if split == "train" else photo[:, border:]


def split_scans(labels: np.ndarray, split: str, seed: int) -> np.ndarray:
    """Draw the scans of a split: ascending indices, the same fraction of every class."""
    rng = _generator(seed, "scans")
    in_val = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        in_val[members[: round(VAL_FRACTION * len(members))]] = True
    return np.flatnonzero(in_val == (split == "val"))


def crop_to_ink(scan: np.ndarray) -> np.ndarray:
    """Cut off the outer rows and columns of a scan (values in [0, 1]) that hold no ink."""
    rows, columns = (np.flatnonzero((scan >= INK).any(axis=axis)) for axis in (1, 0))
    return scan[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def generate(sources: Sources, split: str, count: int, size: int, seed: int) -> Iterator[Sample]:
    """Yield the first `count` images of a split, each with a random stream of its own."""
    for index in range(count):
        yield compose(sources, size, _generator(seed, split, index))


def compose(sources: Sources, size: int, rng: np.random.Generator) -> Sample:
    """Make an image of (size, size) pixels: a crop of a photograph with 1 to `max_digits` digits.

    A digit that finds no free place is left out; the first one always finds one.
    """
    image = random_crop(sources.photos[int(rng.integers(len(sources.photos)))], size, rng)
    style = sources.style
    boxes: list = []
    labels: list[int] = []
    for _ in range(rng.integers(1, style.max_digits + 1)):
        index = int(rng.integers(len(sources.glyphs)))
        box = random_box(size, boxes, rng, style)
        if box is not None:
            colour = random_colour(image, box, rng, style)
            draw_glyph(image, sources.glyphs[index], box, colour)
            boxes.append(box)
            labels.append(sources.labels[index])
    return Sample(image, boxes, labels)


def random_crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Copy a random (size, size) part of a photograph (H, W, 3)."""
    y, x = (rng.integers(length - size + 1) for length in photo.shape[:2])
    return photo[y : y + size, x : x + size].copy()


def random_box(
    size: int, taken: Sequence[Box], rng: np.random.Generator, style: Style = DIGITS
) -> Box | None:
    """Draw a box in an image of (size, size) pixels that overlaps none of `taken`, or None.

    sqrt(w * h) is log-uniform between `min_scale` pixels and `max_scale` of the side, and so is
    w / h within its bounds, before rounding. A box that does not fit is drawn again with a new
    scale and aspect, which makes large boxes in crowded images rarer.
    """
    for _ in range(TRIES):
        scale = math.exp(rng.uniform(math.log(style.min_scale), math.log(style.max_scale * size)))
        stretch = math.exp(rng.uniform(-style.max_log_aspect / 2, style.max_log_aspect / 2))
        w, h = round(scale * stretch), round(scale / stretch)
        if max(w, h) > size:
            continue
        box = int(rng.integers(size - w + 1)), int(rng.integers(size - h + 1)), w, h
        if not any(overlaps(box, other) for other in taken):
            return box
    return None


def overlaps(a: Box, b: Box) -> bool:
    """Tell whether two boxes share a pixel."""
    return all(max(a[i], b[i]) < min(a[i] + a[i + 2], b[i] + b[i + 2]) for i in (0, 1))


def random_colour(
    image: np.ndarray, box: Box, rng: np.random.Generator, style: Style = DIGITS
) -> np.ndarray:
    """Draw an RGB colour (3,) that can be seen in the box of the image.

    Its luma differs by at least `MIN_CONTRAST` from the mean luma of the pixels of the box, and is
    above it on a dimmed photograph. There always is such a colour, as 127 >= MIN_CONTRAST.
    """
    x, y, w, h = box
    background = float(image[y : y + h, x : x + w].mean(axis=(0, 1)) @ LUMA)
    while True:
        colour = rng.integers(0, 256, size=3)
        contrast = float(colour @ LUMA) - background
        if (contrast if style.bright else abs(contrast)) >= MIN_CONTRAST:
            return colour


def draw_glyph(image: np.ndarray, glyph: np.ndarray, box: Box, colour: np.ndarray) -> None:
    """Draw a glyph in place, resized to fill the box; ink of `OPAQUE` and more covers."""
    x, y, w, h = box
    # Not bicubic: its overshoot can erase the ink along the rim, and the box would not be tight.
    resized = Image.fromarray(glyph.astype(np.float32)).resize((w, h), Image.Resampling.BILINEAR)
    opacity = np.minimum(np.asarray(resized) / OPAQUE, 1)[:, :, None]  # (h, w, 1)
    region = image[y : y + h, x : x + w]
    region[:] = np.rint(opacity * colour + (1 - opacity) * region).astype(np.uint8)


def _generator(seed: int, *keys: str | int) -> np.random.Generator:
    numbers = [_SPLIT_KEYS[key] if isinstance(key, str) else key for key in keys]
    return np.random.default_rng(np.random.SeedSequence([seed, *numbers]))


def _describe(folder: Path, name: str, count: int, size: int, seed: int) -> CocoSplit:
    parameters = {"split": name, "count": count, "size": size, "seed": seed}
    info = {
        "description": "Handwritten digits on photographs",
        "version": "1.0",
        "parameters": parameters | STYLES[folder.name]._asdict(),
        "sources": [
            "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine "
            "Learning Repository, 1998, doi:10.24432/C50P49 (from sklearn.datasets.load_digits)",
            "Photographs china.jpg (danielbuechele) and flower.jpg (vultilion), flickr.com "
            "(from sklearn.datasets.load_sample_images)",
        ],
    }
    return CocoSplit(folder, name, CLASS_NAMES[folder.name], info, _LICENSES)
