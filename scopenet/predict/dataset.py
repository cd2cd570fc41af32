"""The rows of very many images as one COCO json, which labelling tools import as first labels."""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import takewhile

from ..detector import Detector
from ..storage import Folder, without_query
from .shards import Row, shard_name, whole_shards
from .sources import Source

# As Datumaro, by which CVAT reads and writes, calls the file of a data set without subsets.
DATASET = "instances_default.json"


def write_dataset(
    folder: Folder, detector: Detector, sources: Sequence[Source], images: str | None
) -> str:
    """Write what the shards of a folder, all of them whole, say of the images of ``sources``, and
    return the folder that the file names start from: ``images`` or else the one that holds all.

    Images that could not be looked at are left out. The ids of images are those of the sources if
    each has one of its own, or else 1, 2, 3, ... The rows are read, and written, one by one.
    """
    start = str(images).rstrip("/") if images else shared_folder(sources)
    ids = [x for source in sources for x in source.image_ids or (None,)]
    has_ids = None not in ids and len(set(ids)) == len(ids)

    def rows() -> Iterator[tuple[int, Row]]:
        lines = (
            line
            for number in sorted(whole_shards(folder))
            for line in folder.read(shard_name(number, "coco")).splitlines()
        )
        for i, row in enumerate(map(json.loads, lines), start=1):
            if row["error"] is None:
                yield row["image_id"] if has_ids else i, row

    found = ((i, x) for i, row in rows() for x in row["detections"])
    classes = zip(detector.category_ids, detector.class_names, strict=True)
    parts = {
        "categories": ({"id": i, "name": name} for i, name in classes),
        "images": (
            {"id": i, "file_name": without_query(row["path"]).removeprefix(f"{start}/")}
            | {"width": row["width"], "height": row["height"]}
            for i, row in rows()
        ),
        "annotations": (
            # CVAT takes a box that has no segmentation for a box, and wants the field itself.
            {"id": n, "image_id": i, **x, "iscrowd": 0, "segmentation": []}
            | {"area": math.prod(x["bbox"][2:])}
            for n, (i, x) in enumerate(found, start=1)
        ),
    }
    with folder.writing(DATASET) as path, open(path, "w", encoding="utf-8") as f:
        f.write('{"info": {"description": "Detections of ScopeNet"}')
        for name, entries in parts.items():
            f.write(f',\n"{name}": [')
            for i, x in enumerate(entries):
                f.write((",\n" if i else "\n") + json.dumps(x, ensure_ascii=False))
            f.write("]")
        f.write("}\n")
    return start


def shared_folder(sources: Sequence[Source]) -> str:
    """Return the deepest folder, or part of an object store, that all images are in; a tar file is
    the folder of its images."""
    paths = (x for source in sources for x in source.paths or [f"{source.name}/"])
    folders = [x.split("/") for x in {without_query(x).rpartition("/")[0] for x in paths}]
    pairs = zip(min(folders), max(folders), strict=False)
    return "/".join(x for x, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
