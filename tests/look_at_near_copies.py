"""How far apart the hashes of `scopenet check --against` are: those of different images, and those
of an image and its changed copies.

    python tests/look_at_near_copies.py FOLDER ...

Prints, in bits, the least distances of all pairs of images in the folders, with their names, then
the distances of the images from copies of their own.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from scopenet.data.check.leaks import NUM_BITS, look_at
from scopenet.images import images_in


def crop(image: Image.Image, share: float) -> Image.Image:
    """Take ``share`` of width and height away, half of it on each side."""
    x, y = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((x, y, image.width - x, image.height - y))


def bright(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.2)


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], dict]] = {
    "JPEG of quality 20": (lambda x: x, {"quality": 20}),
    "a quarter of the size": (lambda x: x.reduce(4), {"quality": 75}),
    "another aspect ratio": (lambda x: x.resize((600, 600)), {"quality": 90}),
    "greyscale": (lambda x: x.convert("L"), {"quality": 90}),
    "20 % brighter": (bright, {"quality": 90}),
    "cropped by 2 %": (lambda x: crop(x, 0.02), {"quality": 90}),
    "cropped by 4 %": (lambda x: crop(x, 0.04), {"quality": 90}),
    "cropped by 10 %": (lambda x: crop(x, 0.1), {"quality": 90}),
    "mirrored": (lambda x: x.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {"quality": 90}),
}


def bits_of(paths: list[Path]) -> np.ndarray:
    return np.stack([look_at(str(x))[1] for x in paths])


def bits_of_copies(paths: list[Path], change: Callable, options: dict) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder, f"{i}.jpg") for i in range(len(paths))]
        for path, copy in zip(paths, copies, strict=True):
            change(Image.open(path).convert("RGB")).save(copy, **options)
        return bits_of(copies)


def main(folders: list[str]) -> None:
    paths = [x for folder in folders for x in images_in(Path(folder))]
    bits = bits_of(paths)
    pairs = np.triu_indices(len(paths), 1)
    distances = ((NUM_BITS - bits @ bits.T) / 2).astype(int)[pairs]
    print(f"{len(paths)} images, {len(distances)} pairs, of which the nearest:")
    for index in distances.argsort()[:12]:
        names = (paths[x[index]].name for x in pairs)
        print(f"{distances[index]:4} ", *names)
    print("an image and its copy: median, 90 %, greatest")
    for name, (change, options) in CHANGES.items():
        apart = (NUM_BITS - (bits_of_copies(paths, change, options) * bits).sum(1)) / 2
        print("{:4.0f} {:4.0f} {:4.0f}  {}".format(*np.quantile(apart, [0.5, 0.9, 1]), name))


if __name__ == "__main__":
    main(sys.argv[1:])
