"""Images by the thousand: from folders and patterns, lists of paths, tar files and COCO jsons, of
this machine or, but for tar files, of an object store."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError, import_extra, refused
from ..images import IMAGE_SUFFIXES, find_images
from ..storage import files_in, is_uri, local_path, read_file, without_query


class Item(NamedTuple):
    """An image that has not been read yet."""

    path: str  # of a member of a tar file with that file's before it
    image: str | bytes  # the path, or the content of the file
    image_id: int | None = None  # of a COCO json or a table


@dataclass(frozen=True)
class Source:
    """Images that can be gone through any number of times."""

    name: str  # as given
    paths: list[str] | None  # None of a tar file, which is read from beginning to end
    image_ids: list[int] | None = None  # of a COCO json or a table

    def __iter__(self) -> Iterator[Item]:
        if self.paths is None:
            return tar_items(Path(self.name))
        ids: list = self.image_ids or [None] * len(self.paths)
        return (Item(path, path, number) for path, number in zip(self.paths, ids, strict=True))


def find_sources(inputs: Sequence[str], images: str | Path | None = None) -> list[Source]:
    """Find the images of folders, patterns and image files, of lists of paths (``.txt``, or
    ``.parquet`` with columns ``path`` and perhaps ``image_id``), tar files and COCO jsons (whose
    files are in the folder ``images``); a ConfigError names an input that gives none."""
    sources = []
    for name in inputs:
        suffix = _suffix(name)
        if suffix == ".tar" and Path(name).is_file():
            source = Source(name, None)
        elif suffix in _LISTS and (is_uri(name) or Path(name).is_file()):
            source = _LISTS[suffix](name, images)
        elif is_uri(name):
            source = Source(name, _images_at(name))
        else:
            source = Source(name, [str(x) for x in find_images([name])])
        if source.paths == []:
            raise ConfigError(f"{name} names no image.")
        if any(is_uri(local_path(x)) for x in source.paths or ()):
            import_extra("pyarrow.fs", "parquet")  # or else no image could be read
        sources.append(source)
    return sources


def _text_source(name: str, images: str | Path | None) -> Source:
    with refused(f"{name} cannot be read as a list of paths"):
        lines = read_file(name).decode("utf-8").splitlines()
    return Source(name, [x.strip() for x in lines if x.strip()])


def _parquet_source(name: str, images: str | Path | None) -> Source:
    parquet = import_extra("pyarrow.parquet", "parquet")
    with refused(f"{name} cannot be read as a table with the column path"):
        table = parquet.read_table(BytesIO(read_file(name)))
        paths = [str(x) for x in table["path"].to_pylist()]
        has_ids = "image_id" in table.column_names
        return Source(name, paths, table["image_id"].to_pylist() if has_ids else None)


def _coco_source(name: str, images: str | Path | None) -> Source:
    if images is None:
        raise ConfigError(f"{name} is a COCO json; give the folder of its images by --images.")
    folder = str(images).rstrip("/")
    with refused(f"{name} cannot be read as a COCO json"):
        records = json.loads(read_file(name))["images"]
        paths = [f"{folder}/{x['file_name']}" for x in records]
        return Source(name, paths, [int(x["id"]) for x in records])


_LISTS = {".txt": _text_source, ".parquet": _parquet_source, ".json": _coco_source}


def _images_at(uri: str) -> list[str]:
    """List the images in the folder of an address, or take the address itself for one."""
    if _suffix(uri) in IMAGE_SUFFIXES:
        return [uri]
    with refused(f"{uri} cannot be listed"):
        return [x for x in files_in(uri) if _suffix(x) in IMAGE_SUFFIXES]


def _suffix(name: str) -> str:
    return Path(without_query(name)).suffix.lower()


def tar_items(path: Path) -> Iterator[Item]:
    """Yield the images of a tar file, e.g. of webdataset, one after another."""
    with refused(f"{path} cannot be read as a tar file"), tarfile.open(path, "r|") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                file = archive.extractfile(member)
                assert file  # None of what is no file
                yield Item(f"{path}/{member.name}", file.read())


def fingerprint(sources: Sequence[Source]) -> str:
    """Return what tells the images of two runs apart: a sha256 of their paths, and of a tar file of
    its name and size."""
    digest = sha256()
    for source in sources:
        parts = source.paths or [source.name, str(Path(source.name).stat().st_size)]
        for x in parts:
            digest.update(x.encode() + b"\0")
    return digest.hexdigest()
