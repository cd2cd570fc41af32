#!/usr/bin/env python
"""Prepare the Trees data set: aerial photographs with boxes around tree crowns, from PyPI.

The two photographs are airborne imagery of the National Ecological Observatory Network (NEON) over
Yellowstone, annotated by Weinstein et al. and shipped in the PyPI package `deepforest`. One is cut
into training tiles, the other into validation tiles. Nothing of the package is run: the wheel is a
zip file of which two pictures and their Pascal VOC annotations are read, after its checksum.

All coordinates are pixels; boxes are XYXY until a tile is written.
"""

import argparse
import hashlib
import io
import itertools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pascal_voc import read_objects
from scopenet.data.builtin import CLASS_NAMES, CocoSplit, Sample, dataset_root
from scopenet.errors import ConfigError, one_sentence_errors
from scopenet.predict.tiles import tile_starts

PACKAGE = "deepforest==2.1.0"
WHEEL_SHA256 = "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54"
DATA = "deepforest/data"  # in the wheel


class Photograph(NamedTuple):
    """A photograph of the wheel: the name of its files, and how many boxes it has."""

    name: str
    num_boxes: int


PHOTOGRAPHS = {
    "train": Photograph("2019_YELL_2_528000_4978000_image_crop2", 574),
    "val": Photograph("2019_YELL_2_541000_4977000_image_crop", 279),
}

_LICENSES = ({"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"},)


def prepare_trees(
    root: Path | None = None, *, tile: int = 400, wheel: Path | None = None
) -> list[str]:
    """Write `<root>/trees` in COCO format, except splits that are already there.

    Args:
        root: the directory of all data sets, by default `dataset_root()`.
        tile: the side of the square tiles, in pixels.
        wheel: the file of the package, if it is at hand; it is fetched with pip otherwise.

    Returns:
        The names of the splits that had to be written.

    Raises:
        ConfigError: pip could not fetch the wheel, it is another than the expected one, or the
            tiles are larger than the photographs.
    """
    folder = (root or dataset_root()) / "trees"
    splits = [_describe(folder, name, tile) for name in PHOTOGRAPHS]
    missing = [split for split in splits if not split.is_complete()]
    if missing:
        with tempfile.TemporaryDirectory() as temporary:
            archive = open_wheel(wheel or fetch_wheel(Path(temporary)))
            with archive:
                samples = {s.name: list(tiles_of(archive, s.name, tile)) for s in missing}
        for split in missing:
            split.write(samples[split.name], total=len(samples[split.name]))
    return [split.name for split in missing]


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel with pip, without what it depends on.

    Raises:
        ConfigError: pip failed.
    """
    print(f"Fetching {PACKAGE} with pip ...", flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command = [*pip, "--only-binary=:all:", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(
            f"pip could not download {PACKAGE}: {reason}; fetch its wheel elsewhere and name it "
            "with --wheel."
        )
    return next(folder.glob("*.whl"))


def open_wheel(path: Path) -> zipfile.ZipFile:
    """Open the wheel as a zip file, once its checksum has been found right.

    Raises:
        ConfigError: the file is missing or is another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The wheel {path} cannot be read: {error.strerror}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != WHEEL_SHA256:
        raise ConfigError(f"{path} is not the wheel of {PACKAGE}: its sha256 is {digest}.")
    return zipfile.ZipFile(io.BytesIO(content))


def tiles_of(archive: zipfile.ZipFile, split: str, tile: int) -> Iterator[Sample]:
    """Yield the tiles of a split's photograph, row by row.

    Raises:
        ConfigError: the annotations are not the expected ones, or the tiles too large.
    """
    photograph = PHOTOGRAPHS[split]
    _, boxes = read_objects(archive.read(f"{DATA}/{photograph.name}.xml"))
    if len(boxes) != photograph.num_boxes:
        raise ConfigError(
            f"{photograph.name}.xml has {len(boxes)} boxes instead of {photograph.num_boxes}."
        )
    with Image.open(io.BytesIO(archive.read(f"{DATA}/{photograph.name}.png"))) as picture:
        image = np.asarray(picture.convert("RGB"))
    if not 0 < tile <= min(image.shape[:2]):
        raise ConfigError(f"A tile has 1 to {min(image.shape[:2])} pixels, not {tile}.")
    starts = (tile_starts(length, tile) for length in image.shape[:2])
    for y, x in itertools.product(*starts):
        kept = boxes_in_tile(boxes, x, y, tile)
        yield Sample(image[y : y + tile, x : x + tile], kept, [0] * len(kept))


def boxes_in_tile(boxes: np.ndarray, x: int, y: int, tile: int) -> list[tuple[int, int, int, int]]:
    """Clip to the tile at (x, y) the boxes of which half or more is in it; as XYWH in its frame.

    Tiles may overlap, and a box in the overlap counts in both.
    """
    corner = np.array([x, y, x, y])
    clipped = (boxes - corner).clip(0, tile)
    sides, full_sides = (b[:, 2:] - b[:, :2] for b in (clipped, boxes))
    is_in = 2 * sides.prod(axis=1) >= np.maximum(full_sides.prod(axis=1), 1)
    kept = np.concatenate([clipped[:, :2], sides], axis=1)[is_in]
    return [tuple(map(int, box)) for box in kept]


def _describe(folder: Path, name: str, tile: int) -> CocoSplit:
    info = {
        "description": "Tree crowns in aerial photographs",
        "version": "1.0",
        "parameters": {"split": name, "photograph": PHOTOGRAPHS[name].name, "tile": tile},
        "sources": [
            f"PyPI package {PACKAGE} (MIT), sha256 {WHEEL_SHA256}",
            "B. Weinstein et al.: DeepForest: A Python package for RGB deep learning tree crown "
            "delineation, Methods in Ecology and Evolution, 2020, doi:10.1111/2041-210X.13472",
            "Imagery: National Ecological Observatory Network (NEON), site YELL, 2019",
        ],
    }
    return CocoSplit(folder, name, CLASS_NAMES["trees"], info, _LICENSES)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--tile", type=int, default=400, help="side of the tiles, in pixels")
    parser.add_argument("--wheel", type=Path, help="the wheel of deepforest, if it is at hand")
    parser.add_argument(
        "--output", type=Path, default=dataset_root(), help="where the folder `trees` is made"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        written = prepare_trees(args.output, tile=args.tile, wheel=args.wheel)
    state = f"wrote {' and '.join(written)}" if written else "complete, nothing to do"
    print(f"{args.output / 'trees'}: {state}")


if __name__ == "__main__":
    main()
