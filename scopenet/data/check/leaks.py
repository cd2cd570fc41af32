"""Images that two data sets have in common: equal files, and pictures that look the same."""

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...errors import ImageError
from ...images import read_image
from .findings import Finding, over_files

NUM_BITS = 256  # of a perceptual hash; with 64 copies and different photographs are not apart
MAX_DISTANCE = 48  # of near copies, in bits; docs/own_data.md has what it is chosen by
BLOCK = 256  # images that are compared at once with all of the other set


class Look(NamedTuple):
    """What is compared of an image."""

    entry: dict[str, Any]  # of the json
    digest: bytes  # of the file
    bits: np.ndarray  # (NUM_BITS,) float32, -1 or 1; all 0 of a file whose pixels cannot be read


def find_leaks(ours: list[Look], others: list[Look], max_distance: int) -> Iterator[Finding]:
    """Find the images of ours that the other set has as well, or has a near copy of: one whose hash
    differs in at most ``max_distance`` bits."""
    same = {x.digest: x.entry["file_name"] for x in others}
    for look, (distance, index) in zip(ours, nearest(ours, others), strict=True):
        kind, detail = "image of both sets", same.get(look.digest)
        if not detail and distance <= max_distance:
            kind = "near copy of an image of the other set"
            detail = f"{others[index].entry['file_name']}, {distance} of {NUM_BITS} bits differ"
        if detail:
            yield Finding(kind, look.entry["file_name"], "images", look.entry["id"], detail)


def look_at_all(images: Sequence[dict[str, Any]], folder: str) -> list[Look]:
    """Look at the files in ``folder`` that entries of the json name, where they are there."""
    is_there = [x for x in images if Path(folder, str(x.get("file_name"))).is_file()]
    return over_files(lambda x: Look(x, *look_at(os.path.join(folder, x["file_name"]))), is_there)


def look_at(path: str) -> tuple[bytes, np.ndarray]:
    """Return the sha256 of a file and the bits of its picture, see :class:`Look`."""
    from imagehash import phash

    content = Path(path).read_bytes()
    try:
        picture = Image.fromarray(read_image(content)[:, :, ::-1])
        bits = phash(picture, hash_size=round(NUM_BITS**0.5)).hash.ravel() * np.float32(2) - 1
    except ImageError:
        bits = np.zeros(NUM_BITS, np.float32)
    return sha256(content).digest(), bits


def nearest(ours: list[Look], others: list[Look]) -> Iterator[tuple[int, int]]:
    """Yield, of each of ours, in how many bits the nearest of the others differs, and its index."""
    theirs = np.stack([x.bits for x in others] or [np.zeros(NUM_BITS, np.float32)])  # (M, NUM_BITS)
    for start in range(0, len(ours), BLOCK):
        block = np.stack([x.bits for x in ours[start : start + BLOCK]])
        agreement = block @ theirs.T  # (BLOCK, M), bits that agree less those that differ
        distances = (NUM_BITS - agreement.max(1)) / 2  # half of the bits where one was not read
        yield from zip(distances.astype(int).tolist(), agreement.argmax(1).tolist(), strict=True)
