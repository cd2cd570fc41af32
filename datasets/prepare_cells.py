#!/usr/bin/env python
"""Prepare the Cells data set: blood cells under a microscope, from a public GitHub repository.

BCCD by shenggan, with data of cosmicad and akshaylamba; the splits are its own, and its test images
are left out. Some images lack boxes of visible red cells.
"""

from collections.abc import Iterator

from voc_repository import Files, Source, main

FOLDER = "BCCD"


def pairs(files: Files, split: str) -> Iterator[tuple[str, str]]:
    """Yield the images that the source lists for a split, and their annotations."""
    for name in files[f"{FOLDER}/ImageSets/Main/{split}.txt"].decode().split():
        yield f"{FOLDER}/JPEGImages/{name}.jpg", f"{FOLDER}/Annotations/{name}.xml"


SOURCE = Source(
    dataset="cells",
    repository="Shenggan/BCCD_Dataset",
    commit="d272fb14cdff6e473fafeeeba32aba5f560e9e43",
    info={
        "description": "Blood cells under a microscope (BCCD)",
        "version": "1.0",
        "contributor": "shenggan; data from cosmicad and akshaylamba",
    },
    license={
        "name": "MIT, Copyright (c) 2017 shenggan",
        "url": "https://opensource.org/license/mit",
    },
    pairs=pairs,
)

if __name__ == "__main__":
    main(SOURCE, __doc__)
