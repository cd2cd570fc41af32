"""Detections in COCO's format of results, and files that are written whole or not at all."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detectron2.structures import Instances

from .detector import Detector


def image_ids(names: Sequence[str]) -> list[int]:
    """COCO calls image 139 000000000139.jpg: the numbers in the names if all have different ones,
    or else 1, 2, 3, ...
    """
    stems = [Path(name).stem for name in names]
    if all(x.isascii() and x.isdigit() for x in stems) and len(set(map(int, stems))) == len(stems):
        return [int(x) for x in stems]
    return list(range(1, len(stems) + 1))


def coco_results(
    instances: Instances, detector: Detector, image_id: int, file_name: str
) -> list[dict]:
    """What COCO's evaluation reads, boxes XYWH in px of the image, and besides it the file's name,
    the class's name and, of a ScopeNet, the confidences: of the box, and of its borders (l, t, r,
    b).
    """
    sides = instances.pred_boxes.tensor.clone()
    sides[:, 2:] -= sides[:, :2]
    columns = {"bbox": sides, "score": instances.scores}
    columns |= {
        name: instances.get(field)
        for name, field in (("loc_score", "loc_scores"), ("border_scores", "border_scores"))
        if instances.has(field)
    }
    rows = zip(*(x.tolist() for x in columns.values()), strict=True)
    records = []
    for label, row in zip(instances.pred_classes.tolist(), rows, strict=True):
        record = {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": detector.category_ids[label],
            "category_name": detector.class_names[label],
        }
        records.append(record | {k: _short(x) for k, x in zip(columns, row, strict=True)})
    return records


def _short(value: float | list[float]) -> float | list[float]:
    """Six digits after the point, of px and of probabilities, are more than anybody measures."""
    return [round(x, 6) for x in value] if isinstance(value, list) else round(value, 6)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to be written, of the same suffix, which takes its place if all goes
    well and is removed otherwise.
    """
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(records: list[dict], path: Path) -> None:
    """One line per detection."""
    lines = ",\n".join(json.dumps(x, ensure_ascii=False) for x in records)
    with replacing(path) as unfinished:
        unfinished.write_text(f"[\n{lines}\n]\n" if records else "[]\n", encoding="utf-8")
