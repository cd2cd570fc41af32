"""YOLO and Pascal VOC folders as COCO json, read by the package `globox`, and the command
``scopenet convert``, which cuts tiles, too."""

import argparse
from pathlib import Path
from typing import Any

from PIL import Image

from ..atomic import write_json
from ..errors import ConfigError, import_extra, refused
from ..images import check_image_file, images_in, orientation_of, reason_of
from ..safe_yaml import read_yaml
from . import tiles
from .coco_json import classes_of, read_coco_json

SUFFIXES = {"yolo": ".txt", "voc": ".xml"}  # of the label file of an image


def convert(
    kind: str, *, labels: Path, images: Path, names: Path | None, like: Path | None, output: Path
) -> dict[str, int]:
    """Write a COCO json of all images below ``images``, and count what is in it. A missing globox
    or folder, a malformed label file and a class without a name are a ConfigError.

    Args:
        kind: one of ``SUFFIXES``.
        labels: the folder of the label files, laid out as the images are.
        names: see :func:`read_names`; "yolo" needs them, or ``like``.
        like: a COCO json whose categories are taken instead, as for a validation split.
    """
    globox = import_extra("globox", "convert")
    if not labels.is_dir():
        raise ConfigError(f"The folder {labels} does not exist.")
    files = images_in(images, recursive=True)
    classes: list[str] | None
    if like:
        classes = [*classes_of(read_coco_json(like)).values()]
    else:
        classes = read_names(names) if names else None
    if kind == "yolo" and classes is None:
        raise ConfigError("YOLO labels are numbers: give the class names by --names or --like.")
    parsed = [_parse(globox, kind, labels, images, file) for file in files]
    found = sorted({box.label for x in parsed for box in x.boxes})
    classes = found if classes is None else classes
    ids = {str(i) if kind == "yolo" else name: i + 1 for i, name in enumerate(classes)}
    if unknown := [label for label in found if label not in ids]:
        raise ConfigError(f"The labels name classes that have no name: {', '.join(unknown)}.")
    content = globox.AnnotationSet(parsed).to_coco(
        label_to_id=ids, imageid_to_id={x.image_id: i + 1 for i, x in enumerate(parsed)}
    )
    content["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(classes)]
    for i, annotation in enumerate(content["annotations"]):
        # Ids start at 1: COCOeval takes the id 0 of a matched ground truth for "not matched".
        annotation["id"] = i + 1
        del annotation["segmentation"]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, content)
    return {k: len(content[k]) for k in ("images", "annotations", "categories")}


def read_names(path: Path) -> list[str]:
    """Read the class names of a text file, one a line, or the "names" of a YOLO ``data.yaml``."""
    with refused(f"{path} names no classes"):
        text = path.read_text(encoding="utf-8")
        names: Any = [line.strip() for line in text.splitlines() if line.strip()]
        if path.suffix.lower() in (".yaml", ".yml"):
            names = read_yaml(text)["names"]
            if isinstance(names, dict):  # number -> name
                names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{path} names no classes.")
    return [str(name) for name in names]


def _parse(globox: Any, kind: str, labels: Path, images: Path, file: Path) -> Any:
    """Let globox read the labels of one image; without a label file it has no boxes."""
    name = file.relative_to(images)
    label, size, boxes = (labels / name).with_suffix(SUFFIXES[kind]), _size_of(file), []
    with refused(f"{label} cannot be read"):
        if label.is_file() and kind == "yolo":
            boxes = globox.Annotation.from_yolo_v5(label, image_size=size).boxes
        elif label.is_file():
            boxes = globox.Annotation.from_pascal_voc(label).boxes
    # VOC's own idea of file name and size is often another file's.
    return globox.Annotation(name.as_posix(), size, boxes)


def _size_of(file: Path) -> tuple[int, int]:
    """Return width and height of an image as training reads it, turned by its EXIF orientation."""
    try:
        with open(file, "rb") as opened:
            check_image_file(opened)
        with Image.open(file) as image:
            return image.size[::-1] if orientation_of(image) > 4 else image.size
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        raise ConfigError(f"{file} cannot be read: {reason_of(error)}.") from error


def parser() -> argparse.ArgumentParser:
    """Take the flags of ``scopenet convert``."""
    about = "Write a COCO json: of YOLO or Pascal VOC labels, or of the tiles of large images."
    parser = argparse.ArgumentParser(description=about)
    kinds = parser.add_subparsers(dest="kind", required=True, prog="scopenet convert")
    for kind in SUFFIXES:
        of = kinds.add_parser(kind, help=f"of a folder of images with {kind.upper()} labels")
        of.add_argument("--labels", type=Path, required=True, help="folder of the label files")
        of.add_argument("--images", type=Path, required=True, help="folder of the images")
        of.add_argument("--names", type=Path, help="class names: one a line, or YOLO's data.yaml")
        of.add_argument("--like", type=Path, help="COCO json whose categories to take instead")
        of.add_argument("--output", type=Path, required=True, help="the COCO json to write")
    tiles.add_flags(kinds.add_parser("tiles", help="of the tiles that large images are cut into"))
    return parser


def run(args: argparse.Namespace) -> None:
    """Convert, and print what was written."""
    flags = vars(args).copy()
    kind = flags.pop("kind")
    numbers = tiles.cut(**flags) if kind == "tiles" else convert(kind, **flags)
    print(f"Written to {args.output}: {', '.join(f'{n} {what}' for what, n in numbers.items())}.")
