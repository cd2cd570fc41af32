"""Large images as tiles to train on, cut by the package `sahi`; ``scopenet convert tiles``."""

import argparse
from collections import defaultdict
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..atomic import write_json
from ..errors import ConfigError, import_extra
from ..images import read_image
from .augmentation import MIN_VISIBLE
from .coco_json import clean, read_coco_json


def cut(
    *, json: Path, images: Path, tile: int, overlap: int | None, output: Path
) -> dict[str, int]:
    """Write square tiles of all images of a COCO json as PNG into ``output/images``, and
    ``output/annotations.json`` of them; count what is in it.

    ``tile`` and ``overlap``, by default a quarter of it, are px. A box is clipped to every tile
    that shows a quarter of it or more; left out are those below 1 px² and what cannot be trained
    on. A json that is there already, a missing sahi, an image that cannot be read and one of
    another size than in the json are a ConfigError.
    """
    import_extra("sahi", "tiles")
    from sahi.slicing import slice_image
    from sahi.utils.coco import CocoAnnotation, create_coco_dict

    overlap = tile // 4 if overlap is None else overlap
    if not 0 <= overlap < tile:
        raise ConfigError(f"--overlap must be in [0, {tile}), less than --tile; got {overlap}.")
    path = output / "annotations.json"
    if path.exists():
        raise ConfigError(f"{path} is there already; name another folder by --output.")
    content, _ = clean(read_coco_json(json))
    boxes = defaultdict(list)
    for x in content["annotations"]:
        if x["bbox"][2] * x["bbox"][3] >= 1:  # sahi divides by the area in whole px²
            box = CocoAnnotation(x["category_id"], bbox=x["bbox"], iscrowd=x["iscrowd"])
            boxes[x["image_id"]].append(box)
    ratio = (overlap + 0.5) / tile  # of which sahi makes px, rounded down
    tiles = []
    for i, image in enumerate(tqdm(content["images"], unit="image")):
        file = images / image["file_name"]
        pixels = read_image(file)
        if pixels.shape[:2] != (image["height"], image["width"]):
            raise ConfigError(f"{file} has another size than in {json}; see scopenet check.")
        tiles += slice_image(
            Image.fromarray(pixels[:, :, ::-1]),
            boxes[image["id"]],
            output_file_name=f"{file.stem}_{i}",
            output_dir=str(output / "images"),
            min_area_ratio=MIN_VISIBLE,
            slice_height=tile,
            slice_width=tile,
            overlap_height_ratio=ratio,
            overlap_width_ratio=ratio,
        ).coco_images
    written = create_coco_dict(tiles, content["categories"])
    seen = (x for one in tiles for x in one.annotations)
    for annotation, x in zip(written["annotations"], seen, strict=True):
        annotation |= {"iscrowd": x.iscrowd, "segmentation": []}  # of sahi 0, and the box's corners
    write_json(path, written)
    return {k: len(written[k]) for k in ("images", "annotations", "categories")}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Take the flags of ``scopenet convert tiles``."""
    parser.add_argument("--json", type=Path, required=True, help="COCO json of the images")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--tile", type=int, required=True, help="side of the tiles, px")
    parser.add_argument("--overlap", type=int, help="of the tiles, px; by default a quarter")
    parser.add_argument("--output", type=Path, required=True, help="folder of tiles and their json")
