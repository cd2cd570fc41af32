#!/usr/bin/env python
"""Prepare the Cards data set: photographs of playing cards, from a public GitHub repository.

By EdjeElectronics, whose test images are left out. Photographs of one scene follow each other in
number, so validation takes whole scenes: no photograph of it has a near-duplicate in training.
"""

import re
from collections.abc import Iterator

from voc_repository import Files, Source, main

FOLDER = "images/train"
# Series of photographs for validation: begin of the file name, first and last number.
VAL_SERIES = (
    ("IMG_", 2486, 2512),  # one card among things on tables and carpets
    ("IMG_", 2596, 2615),  # several cards on a black cloth
    ("cam_image", 39, 54),  # several cards on a white table, by another camera
    ("cam_image", 1, 1),  # the same scene, at half the size, as number 54
)


def split_of(stem: str) -> str:
    """Tell the split of a photograph by its file name without suffix."""
    series, number = re.fullmatch(r"(\D+)(\d+)", stem).groups()
    is_val = any(series == name and a <= int(number) <= b for name, a, b in VAL_SERIES)
    return "val" if is_val else "train"


def pairs(files: Files, split: str) -> Iterator[tuple[str, str]]:
    """Yield the photographs of a split and their annotations, which lie beside them."""
    for path in files:
        stem, _, suffix = path.removeprefix(f"{FOLDER}/").rpartition(".")
        if suffix.lower() == "jpg" and split_of(stem) == split:  # "JPG", too
            yield path, f"{FOLDER}/{stem}.xml"


SOURCE = Source(
    dataset="cards",
    repository="EdjeElectronics/TensorFlow-Object-Detection-API-Tutorial-Train-Multiple-Objects-"
    "Windows-10",
    commit="c1645825822622fc75919b6be253779d49678f55",
    info={"description": "Playing cards on tables, floors and cloth", "version": "1.0"},
    license={"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    pairs=pairs,
)

if __name__ == "__main__":
    main(SOURCE, __doc__)
