"""Detections in COCO's format of results."""

import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.structures import Instances

from ..atomic import write_text
from ..detector import Detector


def image_ids(names: Sequence[str]) -> list[int]:
    """Number images by their names, as COCO calls image 139 000000000139.jpg, if these are all
    different numbers, or else 1, 2, 3, ..."""
    stems = [Path(name).stem for name in names]
    if all(x.isascii() and x.isdigit() for x in stems) and len(set(map(int, stems))) == len(stems):
        return [int(x) for x in stems]
    return list(range(1, len(stems) + 1))


def coco_results(
    instances: Instances, detector: Detector, image_id: int, file_name: str
) -> list[dict]:
    """Make records that COCO's evaluation reads, boxes XYWH in px of the image.

    Besides, each has the names of the file and of the class and, of a ScopeNet, the confidences of
    the box and of its borders (l, t, r, b).
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
    """Round to six digits after the point, more than anybody measures of px and probabilities."""
    return [round(x, 6) for x in value] if isinstance(value, list) else round(value, 6)


def write_results(records: list[dict], path: Path) -> None:
    """Write one line per detection."""
    lines = ",\n".join(json.dumps(x, ensure_ascii=False) for x in records)
    write_text(path, f"[\n{lines}\n]\n" if records else "[]\n")
