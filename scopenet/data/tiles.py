"""Large images as tiles to train on, cut by the package `sahi`; ``scopenet convert tiles``."""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from ..atomic import write_json
from ..errors import ConfigError, import_extra
from ..images import read_image
from .augmentation import MIN_VISIBLE
from .coco_json import Json, clean, read_coco_json


def cut(
    *, json: Path, images: Path, tile: int, overlap: int | None, output: Path
) -> dict[str, int]:
    """Write square tiles of all images of a COCO json as PNG into ``output/images``, and a json of
    them into ``output``; count what is in it.

    A box is clipped to every tile that shows a quarter of it or more. What cannot be trained on is
    left out, as are boxes below 1 px². A missing sahi, an image that cannot be read or is of
    another size than in the json, and a folder that has such a json already are a ConfigError.

    Args:
        images: the folder that the file names start from.
        tile: the side of the tiles, px; where an image is smaller, so is its tile.
        overlap: what neighbours share, px, in [0, tile); by default a quarter of ``tile``.
    """
    import_extra("sahi", "tiles")
    overlap = tile // 4 if overlap is None else overlap
    if not 0 <= overlap < tile:
        raise ConfigError(f"--overlap must be in [0, {tile}), less than --tile; got {overlap}.")
    path = output / "annotations.json"
    if path.exists():
        raise ConfigError(f"{path} is there already; name another folder by --output.")
    content, _ = clean(read_coco_json(json))
    boxes = defaultdict(list)
    for x in content["annotations"]:
        boxes[x["image_id"]].append(x)
    written = content | {"images": [], "annotations": []}
    for i, image in enumerate(tqdm(content["images"], unit="image")):
        name = f"{Path(image['file_name']).stem}_{i}"
        pixels = _read(images / image["file_name"], image)
        for part in _slices(pixels, boxes[image["id"]], tile, overlap, output / "images", name):
            _add(written, part)
    write_json(path, written)
    return {k: len(written[k]) for k in ("images", "annotations", "categories")}


def _read(path: Path, image: Json) -> Image.Image:
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    if (width, height) != (image["width"], image["height"]):
        raise ConfigError(
            f"{path} has {width} x {height} px, and not the {image['width']} x {image['height']} "
            "of the json; scopenet check finds all such images."
        )
    return Image.fromarray(pixels[:, :, ::-1])


def _slices(
    pixels: Image.Image, boxes: list[Json], tile: int, overlap: int, folder: Path, name: str
) -> Iterator[Any]:
    """Let sahi write the tiles of an image, and yield what each shows."""
    from sahi.slicing import slice_image
    from sahi.utils.coco import CocoAnnotation

    ratio = (overlap + 0.5) / tile  # which sahi makes px of, rounded down
    cut = slice_image(
        pixels,
        [
            CocoAnnotation(x["category_id"], bbox=x["bbox"], iscrowd=x["iscrowd"])
            for x in boxes
            if x["bbox"][2] * x["bbox"][3] >= 1  # sahi divides by the area in whole px²
        ],
        output_file_name=name,
        output_dir=str(folder),
        slice_height=tile,
        slice_width=tile,
        overlap_height_ratio=ratio,
        overlap_width_ratio=ratio,
        min_area_ratio=MIN_VISIBLE,
    )
    return iter(cut.coco_images)


def _add(written: Json, part: Any) -> None:
    """Add a tile, as sahi describes it, to a json."""
    number = len(written["images"]) + 1
    image = {"id": number, "file_name": part.file_name, "width": part.width, "height": part.height}
    written["images"].append(image)
    for x in part.annotations:
        annotation = {"id": len(written["annotations"]) + 1, "image_id": number}
        about = {"category_id": x.category_id, "bbox": x.bbox, "iscrowd": x.iscrowd}
        area = x.bbox[2] * x.bbox[3]
        written["annotations"].append(annotation | about | {"area": area})


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Take the flags of ``scopenet convert tiles``."""
    parser.add_argument("--json", type=Path, required=True, help="COCO json of the images")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--tile", type=int, required=True, help="side of the tiles, px")
    parser.add_argument("--overlap", type=int, help="of the tiles, px; by default a quarter")
    parser.add_argument("--output", type=Path, required=True, help="folder of tiles and their json")
