"""One COCO json as two, for training and for validation; ``scopenet split``."""

import argparse
from hashlib import sha256
from pathlib import Path

from ..atomic import write_json
from ..errors import ConfigError
from .coco_json import Json, read_coco_json


def split(content: Json, *, share: float, seed: int) -> tuple[Json, Json]:
    """Divide a parsed json by image into one for training and one for validation, which has about
    ``share`` of the images, in (0, 1).

    The seed and the file name of an image decide where it goes, whatever other images there are:
    those that are added later leave the others where they were. A split without any image is a
    ConfigError.
    """
    is_val = {x["id"]: _draw(seed, x["file_name"]) < share for x in content["images"]}
    if len(set(is_val.values())) < 2:
        raise ConfigError(
            f"One of the two would get none of the {len(is_val)} images; try another --seed or "
            "--share."
        )
    parts = [
        {
            "images": [x for x in content["images"] if is_val[x["id"]] == side],
            "annotations": [x for x in content["annotations"] if is_val.get(x["image_id"]) == side],
        }
        for side in (False, True)
    ]
    return content | parts[0], content | parts[1]


def _draw(seed: int, file_name: str) -> float:
    """Draw a number in [0, 1)."""
    return int.from_bytes(sha256(f"{seed}/{file_name}".encode()).digest()[:6], "big") / 2**48


def classes_without(content: Json) -> list[str]:
    """List the names of the categories that no annotation is of."""
    used = {x["category_id"] for x in content["annotations"]}
    return [x["name"] for x in content["categories"] if x["id"] not in used]


def parser() -> argparse.ArgumentParser:
    """Take the flags of ``scopenet split``."""
    about = "Divide a COCO json by image: the same images go the same way every time."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", type=Path, required=True, help="the COCO json to divide")
    parser.add_argument("--train", type=Path, required=True, help="the json to write for training")
    parser.add_argument("--val", type=Path, required=True, help="the one for validation")
    parser.add_argument("--share", type=float, default=0.2, help="of validation, by default 0.2")
    parser.add_argument("--seed", type=int, default=0, help="another one divides otherwise")
    return parser


def run(args: argparse.Namespace) -> None:
    """Divide, and print what was written."""
    if not 0 < args.share < 1:
        raise ConfigError(f"--share must be between 0 and 1, got {args.share}.")
    if len({x.resolve() for x in (args.json, args.train, args.val)}) < 3:
        raise ConfigError("--json, --train and --val are three different files.")
    parts = split(read_coco_json(args.json), share=args.share, seed=args.seed)
    for path, part in zip((args.train, args.val), parts, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, part)
        numbers = f"{len(part['images'])} images, {len(part['annotations'])} boxes"
        missing = classes_without(part)
        lacks = f"; none of {', '.join(missing)}" if missing else ""
        print(f"Written to {path}: {numbers}{lacks}.")
