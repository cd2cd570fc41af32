"""The files that are written: which, checked before anything is looked at, and the detections in
COCO's format of results."""

import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.structures import Instances

from ..atomic import write_text
from ..detector import Detector
from ..errors import ConfigError
from ..images import listed
from .video import CODECS

WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def plan_pictures(files: Sequence[Path], output: Path) -> list[Path]:
    """Say where the picture of each file goes: into the folder ``output`` under the file's own
    name, or, of a single file, to ``output`` if that has the suffix of an image. A ConfigError says
    that it is neither, or that an input or another picture would be overwritten."""
    suffix = output.suffix.lower()
    if output.is_dir() or not suffix:
        pictures = [output / _picture_name(x) for x in files]
    elif suffix not in WRITTEN_SUFFIXES:
        raise ConfigError(
            f"--output {output} is neither a folder nor a file in {listed(WRITTEN_SUFFIXES)}."
        )
    elif len(files) > 1:
        raise ConfigError(f"--output {output} is one file, but there are {len(files)} images.")
    else:
        pictures = [output]
    _make_folder(pictures[0].parent, "--output")
    sources, planned = {x.resolve() for x in files}, set()
    for picture in pictures:
        if picture.resolve() in sources:
            raise ConfigError(f"{picture} is an input and would be overwritten; change --output.")
        if picture in planned:
            raise ConfigError(f"Two inputs are called {picture.name}; give one --output for each.")
        planned.add(picture)
    return pictures


def _picture_name(file: Path) -> str:
    return file.name if file.suffix.lower() in WRITTEN_SUFFIXES else f"{file.name}.png"


def _make_folder(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{flag}: {folder} is a file; name a folder.") from error
    except OSError as error:
        raise ConfigError(f"{flag}: {folder} cannot be made ({error.strerror}).") from error


def check_json(path: Path) -> None:
    """Make the folder of a JSON file that is to be written; a ConfigError says it cannot be one."""
    if path.suffix.lower() != ".json" or path.is_dir():
        raise ConfigError(f"--json {path} is not the name of a .json file.")
    _make_folder(path.parent, "--json")


def check_video(path: Path) -> None:
    """Make the folder of a video that is to be written; a ConfigError says it cannot be one."""
    if path.suffix.lower() not in CODECS or path.is_dir():
        raise ConfigError(f"--output {path} is not the name of an {listed(list(CODECS))} file.")
    _make_folder(path.parent, "--output")


def image_ids(names: Sequence[str | Path]) -> list[int]:
    """Number images by their names, as COCO calls image 139 000000000139.jpg, if these are all
    different numbers, or else 1, 2, 3, ..."""
    stems = [Path(name).stem for name in names]
    if all(x.isascii() and x.isdigit() for x in stems) and len(set(map(int, stems))) == len(stems):
        return [int(x) for x in stems]
    return list(range(1, len(stems) + 1))


def coco_results(
    instances: Instances, detector: Detector, image_id: int, file_name: str
) -> list[dict]:
    """Make records that COCO's evaluation reads, boxes XYWH in px of the image, with the names of
    the file and of the class and, of a ScopeNet, the confidences of the box and of its borders
    (l, t, r, b)."""
    sides = instances.pred_boxes.tensor.clone()
    sides[:, 2:] -= sides[:, :2]
    columns = {"bbox": sides, "score": instances.scores}
    if instances.has("border_scores"):
        columns["loc_score"] = instances.loc_scores
        columns["border_scores"] = instances.border_scores
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
