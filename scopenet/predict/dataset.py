"""The rows of very many images as one COCO json, which labelling tools import as first labels."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, TextIO

from ..data.coco_json import Json
from ..storage import Folder, without_query
from .shards import Row, shard_name, whole_shards
from .sources import Source

# As Datumaro, by which CVAT reads and writes, calls the file of a data set without subsets.
DATASET = "instances_default.json"


def write_dataset(
    folder: Folder, categories: list[Json], sources: Sequence[Source], images: str | None
) -> str:
    """Write what the shards of a folder, all of them whole, say of the images of ``sources``, and
    return the folder that the file names start from: ``images`` or else the one that holds all.

    Images that could not be looked at are left out. The ids of images are those of the sources if
    each has one of its own, or else 1, 2, 3, ... The rows are read, and written, one by one.
    """
    start = str(images).rstrip("/") if images else shared_folder(sources)
    ids = [x for source in sources for x in source.image_ids or [None]]
    has_ids = None not in ids and len(set(ids)) == len(ids)

    def rows() -> Iterator[tuple[int, Row]]:
        for i, row in enumerate(_rows(folder), start=1):
            if row["error"] is None:
                yield row["image_id"] if has_ids else i, row

    annotations = ((i, x) for i, row in rows() for x in row["detections"])
    parts = {
        "categories": categories,
        "images": (_image(i, row, start) for i, row in rows()),
        "annotations": (_annotation(n, *x) for n, x in enumerate(annotations, start=1)),
    }
    with folder.writing(DATASET) as path, open(path, "w", encoding="utf-8") as f:
        f.write('{"info": {"description": "Detections of ScopeNet"}')
        for name, entries in parts.items():
            f.write(f',\n"{name}": [\n')
            _write_entries(f, entries)
            f.write("\n]")
        f.write("}\n")
    return start


def shared_folder(sources: Sequence[Source]) -> str:
    """Return the deepest folder, or part of an object store, that all images are in; a tar file is
    the folder of its images."""
    paths = (x for source in sources for x in source.paths or [f"{source.name}/"])
    folders = [x.split("/") for x in {without_query(x).rpartition("/")[0] for x in paths}]
    pairs = zip(min(folders), max(folders), strict=False)
    return "/".join(x for x, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _rows(folder: Folder) -> Iterator[Row]:
    for number in sorted(whole_shards(folder)):
        yield from map(json.loads, folder.read(shard_name(number, "coco")).splitlines())


def _image(image_id: int, row: Row, start: str) -> Json:
    name = without_query(row["path"]).removeprefix(f"{start}/")
    sides = {x: row[x] for x in ("width", "height")}
    return {"id": image_id, "file_name": name} | sides


def _annotation(number: int, image_id: int, detection: dict[str, Any]) -> Json:
    about = {k: v for k, v in detection.items() if k != "category_name"}
    area = round(detection["bbox"][2] * detection["bbox"][3], 6)
    # CVAT takes a box that has no segmentation for a box, and wants the field itself.
    more = {"area": area, "iscrowd": 0, "segmentation": []}
    return {"id": number, "image_id": image_id, **about, **more}


def _write_entries(f: TextIO, entries: Iterable[Json]) -> None:
    for i, entry in enumerate(entries):
        f.write((",\n" if i else "") + json.dumps(entry, ensure_ascii=False))
