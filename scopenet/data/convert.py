"""YOLO and Pascal VOC folders as COCO json, read by the package `globox`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from ..errors import ConfigError
from .coco_json import class_names, read_coco_json

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def convert(
    kind: str, *, labels: Path, images: Path, names: Path | None, like: Path | None, output: Path
) -> dict[str, int]:
    """Write ``output``, a COCO json of all images below ``images``.

    Args:
        kind: "yolo" (a .txt per image) or "voc" (an .xml per image).
        labels: the folder of these, laid out as the images are.
        names: the class names: one a line, or a YOLO ``data.yaml``; needed for "yolo".
        like: a COCO json whose categories are taken instead, as for a validation split.
        output: the file to write; its file names start from ``images``.

    Returns:
        how many images, boxes and categories were written.

    Raises:
        ConfigError: globox or a folder is missing, a label file is malformed, or a class has no
            name.
    """
    try:
        import globox
    except ImportError as error:
        raise ConfigError('Conversion needs globox; pip install "scopenet[convert]".') from error
    for folder in (labels, images):
        if not folder.is_dir():
            raise ConfigError(f"The folder {folder} does not exist.")
    classes = class_names(read_coco_json(like)) if like else read_names(names) if names else None
    if kind == "yolo" and classes is None:
        raise ConfigError("YOLO labels are numbers: give the class names by --names or --like.")
    files = sorted(x for x in images.rglob("*") if x.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(f"The folder {images} holds no images ({', '.join(SUFFIXES)}).")
    parsed = [_parse(globox, kind, labels, images, file) for file in files]
    annotations = globox.AnnotationSet(parsed)
    found = sorted({box.label for x in parsed for box in x.boxes})
    ids = _ids(kind, classes if classes is not None else found)
    if unknown := [label for label in found if label not in ids]:
        raise ConfigError(f"The labels name classes that have no name: {', '.join(unknown)}.")
    image_ids = {x.image_id: i + 1 for i, x in enumerate(parsed)}
    content = annotations.to_coco(label_to_id=ids, imageid_to_id=image_ids)
    _write(content, classes or found, output)
    return {k: len(content[k]) for k in ("images", "annotations", "categories")}


def read_names(path: Path) -> list[str]:
    """Class names of a text file, one a line, or of the "names" of a YOLO ``data.yaml``.

    Raises:
        ConfigError: the file cannot be read or names no classes.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() not in (".yaml", ".yml"):
            names: Any = [line.strip() for line in text.splitlines() if line.strip()]
        else:
            names = yaml.safe_load(text)["names"]
            if isinstance(names, dict):  # number -> name
                names = [names[i] for i in range(len(names))]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} names no classes: {type(error).__name__} {error}.") from error
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{path} names no classes.")
    return [str(name) for name in names]


def _parse(globox: Any, kind: str, labels: Path, images: Path, file: Path) -> Any:
    """The annotation of one image by globox; of one without a label file, no boxes."""
    name = file.relative_to(images)
    label = (labels / name).with_suffix({"yolo": ".txt", "voc": ".xml"}[kind])
    try:
        with Image.open(file) as image:
            size = image.size
            if image.getexif().get(0x0112, 1) > 4:  # turned by 90 degrees, as training reads it
                size = size[::-1]
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        raise ConfigError(f"{file} cannot be read: {error}.") from error
    if not label.is_file():
        return globox.Annotation(name.as_posix(), size, [])
    try:
        if kind == "yolo":
            parsed = globox.Annotation.from_yolo_v5(label, image_size=size)
        else:
            parsed = globox.Annotation.from_pascal_voc(label)
    except Exception as error:  # globox's own, and those of text that is no number
        raise ConfigError(f"{label} cannot be read: {error}.") from error
    # VOC's own idea of file name and size is often another file's.
    return globox.Annotation(name.as_posix(), size, parsed.boxes)


def _ids(kind: str, classes: Sequence[str]) -> dict[str, int]:
    """Category ids, from 1, by what stands in the label files."""
    return {str(i) if kind == "yolo" else name: i + 1 for i, name in enumerate(classes)}


def _write(content: dict[str, Any], classes: Sequence[str], output: Path) -> None:
    content["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(classes)]
    for i, annotation in enumerate(content["annotations"]):
        # Ids start at 1: COCOeval takes the id 0 of a matched ground truth for "not matched".
        annotation["id"] = i + 1
        del annotation["segmentation"]
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.name}.tmp")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    os.replace(unfinished, output)
