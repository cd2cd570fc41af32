"""The subcommand ``predict``: look at images, a video or a webcam, write or show what is found."""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from ..cli import add_detector, add_overrides
from ..data.coco_json import Json, read_coco_json
from ..detector import Detector
from ..errors import ConfigError, ImageError, import_extra
from ..images import find_images, listed, read_image
from .files import (
    category_ids,
    check_file,
    coco_results,
    image_ids,
    image_ids_of,
    plan_pictures,
    write_results,
)
from .many import look_at_many
from .pictures import draw, write_picture
from .shards import FORMATS
from .tiles import check_tiling, predict_tiles
from .video import CODECS, run_video

ENGINES = ("local", "ray")

# From an image, its number and its file's name, to a picture of what is found, if it is wanted.
Look = Callable[[np.ndarray, int | str, str, bool], Any]


def add_look(parser: argparse.ArgumentParser) -> None:
    """Let the user name a detector and say how it looks at an image."""
    add_detector(parser)
    parser.add_argument("--tile", type=int, help="side of the tiles that images are cut into, px")
    parser.add_argument("--overlap", type=int, help="of the tiles, px; by default a quarter")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, help="least score, by default 0.5"
    )


def load_detector(args: argparse.Namespace) -> Detector:
    """Load the detector that the flags of :func:`add_look` name, once they are checked."""
    check_tiling(args.tile, args.overlap)
    if not 0 <= args.confidence_threshold <= 1:
        raise ConfigError(
            f"--confidence-threshold must be in [0, 1], got {args.confidence_threshold}."
        )
    return Detector.load(
        args.model,
        weights=args.weights,
        device=args.device,
        overrides=args.opts,
        batch_size=getattr(args, "batch_size", 1),
        num_threads=getattr(args, "worker_cpus", None),
    )


class Watched:
    """A detector that keeps the highest score it has given, 0 before there is any."""

    def __init__(self, detector: Detector):
        self.detector, self.highest = detector, 0.0

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        found = self.detector(image)
        self.highest = max([self.highest, *found["instances"].scores.tolist()])
        return found


def nothing_found(highest: float, score_thresh: float) -> str:
    """Say why nothing was found."""
    if highest == 0:
        return "Nothing was found, whatever the score."
    rounded = math.floor(100 * highest) / 100
    return (
        f"Nothing was found with a score of {score_thresh:g} or more, the highest is {rounded:g}; "
        "see what there is by --confidence-threshold."
    )


def look_at(
    image: np.ndarray,
    detector: Detector | Watched,
    *,
    score_thresh: float,
    tile: int | None = None,
    overlap: int | None = None,
) -> Instances:
    """Find what has at least that score in a BGR uint8 image, whole or by tiles."""
    if tile is None:
        instances = detector(image)["instances"]
        return instances[instances.scores >= score_thresh]
    overlap = tile // 4 if overlap is None else overlap
    return predict_tiles(detector, image, tile=tile, overlap=overlap, score_thresh=score_thresh)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a trained detector, see docs/predict.md.")
    add_look(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", help="images, folders or glob patterns")
    source.add_argument("--video-input", help="a video file")
    source.add_argument("--webcam", type=int, nargs="?", const=0, help="its number, 0 by default")
    parser.add_argument("--output", help="folder or file of the pictures, or a video")
    parser.add_argument("--json", type=Path, help="file of the detections, in COCO's format")
    ids = "COCO json of the images, whose image and category ids the detections take"
    parser.add_argument("--images-json", type=Path, metavar="JSON", help=ids)
    many = parser.add_argument_group("very many images", "a row each, see docs/predict.md")
    shards = "write rows in shards into the folder --output, in place of pictures and a json"
    many.add_argument("--format", choices=FORMATS, help=shards)
    many.add_argument("--shard-size", type=int, default=1000, help="images of a shard, 1000")
    many.add_argument("--batch-size", type=int, default=1, help="images at a time, by default 1")
    many.add_argument("--images", help="folder of the images of a COCO json as --input")
    resume = "go on with the shards that are missing"
    many.add_argument("--resume", action="store_true", help=resume)
    engine = "local, or ray: the machines of the cluster of $RAY_ADDRESS, see docs/scale.md"
    many.add_argument("--engine", choices=ENGINES, default="local", help=engine)
    cores = "processor cores of a worker of Ray, by default 4 or what a machine has"
    many.add_argument("--worker-cpus", type=int, help=cores)
    borders = "colour each border by its own confidence"
    parser.add_argument("--borders", action="store_true", help=borders)
    add_overrides(parser)
    return parser


def look_at_files(args: argparse.Namespace, look: Look, content: Json | None) -> tuple[int, int]:
    """Write pictures of image files, which have the ids of a COCO json if there is its ``content``;
    one that cannot be read is reported and left out. Returns how many were looked at, and how many
    left out."""
    files = find_images(args.input)
    ids = image_ids_of(files, content, args.images_json) if content else image_ids(files)
    pictures = plan_pictures(files, args.output) if args.output else [None] * len(files)
    left_out = 0
    for file, picture, number in tqdm(list(zip(files, pictures, ids, strict=True))):
        try:
            drawn = look(read_image(file), number, str(file), picture is not None)
            if picture:
                write_picture(drawn, picture)
        except ImageError as error:
            left_out += 1
            reason = str(error).replace(str(file), "it")
            tqdm.write(f"{file} is left out: {reason}", file=sys.stderr)
    return len(files) - left_out, left_out


def look_at_frames(args: argparse.Namespace, look: Look) -> tuple[int, int]:
    """Do the same for a video or a webcam, whose frames are numbered from 1."""
    source = args.video_input if args.webcam is None else args.webcam
    count, expected = run_video(
        source, args.output, lambda frame, i: look(frame, i + 1, str(source), True)
    )
    is_cut = args.output is not None and args.webcam is None and count < expected
    return count, expected - count if is_cut else 0


def run_many(args: argparse.Namespace) -> None:
    """Look at very many images, by the engine that is named."""
    if not (args.input and args.output) or args.json or args.images_json or args.tile:
        raise ConfigError(
            "--format goes with --input and --output, and without --json, --images-json and --tile."
        )
    if args.engine == "ray":
        import_extra("pyarrow", "ray")
        from .cluster import look_at_many_with_ray

        look_at_many_with_ray(args)
    elif args.worker_cpus is not None:
        raise ConfigError("--worker-cpus is of --engine ray.")
    else:
        look_at_many(args, load_detector(args))


def run(args: argparse.Namespace) -> None:
    """Look at everything that the flags name, and write what is found. Images that were left out
    are a ConfigError at the end."""
    if args.format:
        return run_many(args)
    if args.resume or args.engine != "local":
        raise ConfigError(f"--{'resume' if args.resume else 'engine'} is of runs with --format.")
    args.output = args.output and Path(args.output)
    if args.input and not (args.output or args.json):
        raise ConfigError("Nothing would be kept; give --output (pictures), --json, or both.")
    if args.json:
        check_file(args.json, "--json", "a .json file", [".json"])
    if args.output and not args.input:
        check_file(args.output, "--output", f"an {listed(list(CODECS))} file", CODECS)
    if args.images_json and not (args.input and args.json):
        raise ConfigError("--images-json gives --json the ids of images; give --input and --json.")
    content = read_coco_json(args.images_json) if args.images_json else None
    detector, records = load_detector(args), []
    if content:
        ids = category_ids(detector.class_names, content, args.images_json)
        detector = replace(detector, category_ids=ids)
    watched = Watched(detector)
    score_thresh, tiling = args.confidence_threshold, {"tile": args.tile, "overlap": args.overlap}

    def look(image: np.ndarray, number: int | str, name: str, is_drawn: bool) -> np.ndarray | None:
        found = look_at(image, watched, score_thresh=score_thresh, **tiling)
        records.extend(coco_results(found, detector, number, name))
        return draw(image, found, detector.class_names, borders=args.borders) if is_drawn else None

    if args.input:
        done, left_out = look_at_files(args, look, content)
    else:
        done, left_out = look_at_frames(args, look)
    if args.json:
        write_results(records, args.json)
    what = "image" if args.input else "frame"
    where = " and ".join(str(x) for x in (args.output, args.json) if x)
    written = f"; written to {where}" if where else ""
    print(f"{done} {what}{'s' * (done != 1)} looked at{written}.")
    if done and not records:
        print(nothing_found(watched.highest, score_thresh))
    if left_out:
        raise ConfigError(f"{left_out} of {done + left_out} {what}s could not be read.")
