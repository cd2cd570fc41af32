"""The files that are written: which, checked before anything is looked at, and the detections in
COCO's format of results."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from detectron2.structures import Instances

from ..atomic import write_text
from ..data.coco_json import Json
from ..detector import Detector
from ..errors import ConfigError
from ..images import listed

WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def plan_pictures(files: Sequence[Path], output: Path) -> list[Path]:
    """Say where the picture of each file goes: into the folder ``output`` under the file's own
    name, or, of a single file, to ``output`` if that has the suffix of an image. A ConfigError says
    that it is neither, or that an input or another picture would be overwritten."""
    suffix = output.suffix.lower()
    if output.is_dir() or not suffix:
        names = [x.name if x.suffix.lower() in WRITTEN_SUFFIXES else f"{x.name}.png" for x in files]
        pictures = [output / x for x in names]
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


def _make_folder(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{flag}: {folder} is a file; name a folder.") from error
    except OSError as error:
        raise ConfigError(f"{flag}: {folder} cannot be made ({error.strerror}).") from error


def check_file(path: Path, flag: str, kind: str, suffixes: Collection[str]) -> None:
    """Make the folder of a file to be written; a ConfigError says it cannot be of that kind."""
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise ConfigError(f"{flag} {path} is not the name of {kind}.")
    _make_folder(path.parent, flag)


def image_ids(names: Sequence[str | Path]) -> list[int]:
    """Number images by their names, as COCO calls image 139 000000000139.jpg, if these are all
    different numbers, or else 1, 2, 3, ..."""
    stems = [Path(name).stem for name in names]
    if all(x.isascii() and x.isdigit() for x in stems) and len(set(map(int, stems))) == len(stems):
        return [int(x) for x in stems]
    return list(range(1, len(stems) + 1))


def image_ids_of(files: Sequence[Path], content: Json, name: Path) -> list[int | str]:
    """Find each image's id in the ``content`` of the COCO json ``name``, whose file names start
    from any folder; a ConfigError names a file that is not in it, or twice."""
    known = {x["file_name"]: x["id"] for x in content["images"]}
    ids: dict[int | str, Path] = {}
    for file in files:
        path = file.absolute()
        tails = (Path(*path.parts[i:]).as_posix() for i in range(len(path.parts)))
        found = next((known[x] for x in tails if x in known), None)
        if found is None:
            raise ConfigError(f"{file} is none of the images of {name}.")
        if found in ids:
            raise ConfigError(f"{ids[found]} and {file} are the same image of {name}, {found}.")
        ids[found] = file
    return list(ids)


def category_ids(class_names: Sequence[str], content: Json, name: Path) -> list[int | str]:
    """Find the ids of classes in the ``content`` of the COCO json ``name``; a ConfigError names one
    that is not in it."""
    known = {x["name"]: x["id"] for x in content["categories"]}
    if unknown := [x for x in class_names if x not in known]:
        raise ConfigError(
            f"{name} has no category {unknown[0]}, which the detector finds; leave --images-json "
            "out, or give the json of its own data."
        )
    return [known[x] for x in class_names]


def coco_results(
    instances: Instances, detector: Detector, image_id: int | str, file_name: str
) -> list[dict]:
    """Make records that COCO's evaluation reads, boxes XYWH in px of the image, with the names of
    the file and of the class and, of a ScopeNet, the confidences of the box and of its borders
    (l, t, r, b) and, where it has learned them, the expected errors of these in px."""
    sides = instances.pred_boxes.tensor.clone()
    sides[:, 2:] -= sides[:, :2]
    columns = {"bbox": sides, "score": instances.scores}
    if instances.has("border_scores"):
        columns |= {"loc_score": instances.loc_scores, "border_scores": instances.border_scores}
    if instances.has("border_stds"):
        columns["border_stds"] = instances.border_stds
    # Six digits after the point are more than anybody measures of px and probabilities.
    rounded = [x.double().round(decimals=6).tolist() for x in columns.values()]
    records = []
    for label, *row in zip(instances.pred_classes.tolist(), *rounded, strict=True):
        record = {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": detector.category_ids[label],
            "category_name": detector.class_names[label],
        }
        records.append(record | dict(zip(columns, row, strict=True)))
    return records


def write_results(records: list[dict], path: Path) -> None:
    """Write one line per detection."""
    lines = ",\n".join(json.dumps(x, ensure_ascii=False) for x in records)
    write_text(path, f"[\n{lines}\n]\n" if records else "[]\n")
