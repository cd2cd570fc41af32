"""Images by the thousand: from folders and patterns, lists of paths, tar files and COCO jsons."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError, refused
from ..images import IMAGE_SUFFIXES, find_images


class Item(NamedTuple):
    """An image that has not been read yet."""

    path: str  # of a member of a tar file with that file's before it
    image: str | bytes  # the path, or the content of the file
    image_id: int | None = None  # of a COCO json


class Source(NamedTuple):
    """Images that can be gone through any number of times."""

    name: str  # as given
    paths: list[str] | None  # None of a tar file, which is read from beginning to end
    image_ids: list[int] | None = None  # of a COCO json

    def __iter__(self) -> Iterator[Item]:
        if self.paths is None:
            return tar_items(Path(self.name))
        ids = self.image_ids or [None] * len(self.paths)
        return (Item(path, path, number) for path, number in zip(self.paths, ids, strict=True))


def find_sources(inputs: Sequence[str], images: Path | None = None) -> list[Source]:
    """Find the images of folders, patterns and image files, of lists of paths (``.txt``), tar files
    and COCO jsons (whose files are in the folder ``images``); a ConfigError names an input that
    gives none."""
    sources = []
    for name in inputs:
        suffix = Path(name).suffix.lower()
        if suffix == ".tar" and Path(name).is_file():
            sources.append(Source(name, None))
        elif suffix == ".txt" and Path(name).is_file():
            with refused(f"{name} cannot be read as a list of paths"):
                lines = Path(name).read_text(encoding="utf-8").splitlines()
            sources.append(Source(name, [x.strip() for x in lines if x.strip()]))
        elif suffix == ".json" and Path(name).is_file():
            sources.append(_coco_source(name, images))
        else:
            sources.append(Source(name, [str(x) for x in find_images([name])]))
        if sources[-1].paths == []:
            raise ConfigError(f"{name} names no image.")
    return sources


def _coco_source(name: str, images: Path | None) -> Source:
    if images is None:
        raise ConfigError(f"{name} is a COCO json; give the folder of its images by --images.")
    with refused(f"{name} cannot be read as a COCO json"):
        records = json.loads(Path(name).read_bytes())["images"]
        paths = [str(images / x["file_name"]) for x in records]
        return Source(name, paths, [int(x["id"]) for x in records])


def tar_items(path: Path) -> Iterator[Item]:
    """Yield the images of a tar file, e.g. of webdataset, one after another."""
    with refused(f"{path} cannot be read as a tar file"), tarfile.open(path, "r|") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                yield Item(f"{path}/{member.name}", archive.extractfile(member).read())


def fingerprint(sources: Sequence[Source]) -> str:
    """Return what tells the images of two runs apart: a sha256 of their paths, and of a tar file of
    its name and size."""
    digest = sha256()
    for source in sources:
        parts = source.paths or [source.name, str(Path(source.name).stat().st_size)]
        for x in parts:
            digest.update(x.encode() + b"\0")
    return digest.hexdigest()
