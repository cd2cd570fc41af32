"""What ``demo.py`` does: look at images, a video or a webcam, and write or show what is found."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.error import URLError

import cv2
import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from ..errors import ConfigError
from .detector import Detector, load_checkpoint, load_exported
from .files import check_json, check_video, find_images, plan_pictures
from .images import ImageError, read_photo
from .pictures import draw
from .results import coco_results, image_ids, replacing, write_json
from .tiles import check_tiling, predict_tiles
from .video import run_video

CONFIDENCE_THRESHOLD = 0.5


def add_detector_flags(parser: argparse.ArgumentParser) -> None:
    """What names the detector, and how large images are looked at."""
    parser.add_argument("--config-file", default="", help="YAML or LazyConfig of the detector")
    parser.add_argument("--weights", default="", help="checkpoint, by default that of the config")
    parser.add_argument("--model", type=Path, help="exported model (or its folder) instead of both")
    parser.add_argument("--tile", type=int, help="side of the tiles that images are cut into, px")
    parser.add_argument("--overlap", type=int, help="of the tiles, px; by default a quarter")
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        help="overrides of the config, last: KEY VALUE, of a LazyConfig path.key=value",
    )


def load_detector(args: argparse.Namespace) -> Detector:
    """
    Raises:
        ConfigError: the flags name no detector, or see the two loaders.
    """
    if bool(args.model) == bool(args.config_file):
        raise ConfigError("Give either --config-file (with --weights) or --model.")
    if not args.model:
        return load_checkpoint(args.config_file, args.weights, args.opts)
    if args.weights or args.opts:
        raise ConfigError("--weights and --opts are of a config; an exported model has none.")
    return load_exported(args.model)


def look_at(
    image: np.ndarray,
    detector: Detector,
    *,
    score_thresh: float,
    tile: int | None = None,
    overlap: int | None = None,
) -> Instances:
    """Detections of a BGR uint8 image with at least that score, whole or by tiles."""
    if tile is None:
        instances = detector(image)
        return instances[instances.scores >= score_thresh]
    overlap = tile // 4 if overlap is None else overlap
    return predict_tiles(detector, image, tile=tile, overlap=overlap, score_thresh=score_thresh)


def check_threshold(threshold: float) -> None:
    """
    Raises:
        ConfigError: no score can be compared with it.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"--confidence-threshold must be in [0, 1], got {threshold}.")


def check_args(args: argparse.Namespace) -> None:
    """
    Raises:
        ConfigError: flags are missing or out of range.
    """
    check_tiling(args.tile, args.overlap)
    check_threshold(args.confidence_threshold)
    if args.json:
        check_json(args.json)
    if args.input and not (args.output or args.json):
        raise ConfigError("Nothing would be kept; give --output (pictures), --json, or both.")
    if args.output and not args.input:
        check_video(args.output)


Look = Callable[[np.ndarray], Instances]


def run_images(args: argparse.Namespace, detector: Detector, look: Look) -> tuple[int, int]:
    """Pictures and JSON of image files; one that cannot be read is reported and left out.

    Returns:
        how many images were looked at, and how many left out.

    Raises:
        ConfigError: see :mod:`.files`.
    """
    files = find_images(args.input)
    pictures = plan_pictures(files, args.output) if args.output else [None] * len(files)
    records, left_out = [], 0
    numbers = image_ids([str(x) for x in files])
    for file, picture, number in tqdm(list(zip(files, pictures, numbers, strict=True))):
        try:
            image = read_photo(str(file))
            instances = look(image)
        except ImageError as error:
            left_out += 1
            tqdm.write(f"{file} is left out: {error}", file=sys.stderr)
            continue
        records += coco_results(instances, detector, number, str(file))
        if picture:
            drawn = draw(image, instances, detector.class_names, borders=args.borders)
            with replacing(picture) as unfinished:
                if not cv2.imwrite(str(unfinished), drawn):
                    raise OSError(None, "OpenCV cannot write it", str(picture))
    if args.json:
        write_json(records, args.json)
    return len(files) - left_out, left_out


def run_frames(args: argparse.Namespace, detector: Detector, look: Look) -> tuple[int, int]:
    """The same of a video or a webcam; ``image_id`` is the number of the frame, from 1."""
    source = args.video_input if args.webcam is None else args.webcam
    records = []

    def picture(frame: np.ndarray, index: int) -> np.ndarray:
        instances = look(frame)
        records.extend(coco_results(instances, detector, index + 1, str(source)))
        return draw(frame, instances, detector.class_names, borders=args.borders)

    count, expected = run_video(source, args.output, picture)
    if args.json:
        write_json(records, args.json)
    is_cut = args.output is not None and args.webcam is None and count < expected
    return count, expected - count if is_cut else 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a trained detector, see docs/demo.md.")
    add_detector_flags(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", help="images, folders or glob patterns")
    source.add_argument("--video-input", help="a video file")
    source.add_argument("--webcam", type=int, nargs="?", const=0, help="its number, 0 by default")
    parser.add_argument("--output", type=Path, help="folder or file of the pictures, or a video")
    parser.add_argument("--json", type=Path, help="file of the detections, in COCO's format")
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        default=CONFIDENCE_THRESHOLD,
        help="least score of a detection (default: %(default)s)",
    )
    parser.add_argument(
        "--borders", action="store_true", help="colour each border by its own confidence"
    )
    return parser


def demo(args: argparse.Namespace) -> tuple[int, int]:
    """See :func:`run_images` and :func:`run_frames`.

    Raises:
        ConfigError: what is asked for is not possible.
    """
    check_args(args)
    detector = load_detector(args)
    look = partial(
        look_at,
        detector=detector,
        score_thresh=args.confidence_threshold,
        tile=args.tile,
        overlap=args.overlap,
    )
    return (run_images if args.input else run_frames)(args, detector, look)


def run() -> None:
    """The program; what is wrong with its input ends it with one sentence."""
    args = parser().parse_args()
    try:
        done, left_out = demo(args)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except URLError as error:
        sys.exit(f"error: The weights could not be downloaded ({error.reason}).")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'The output'} cannot be written ({error.strerror}).")
    what = "image" if args.input else "frame"
    where = " and ".join(str(x) for x in (args.output, args.json) if x)
    print(
        f"{done} {what}{'s' * (done != 1)} looked at" + (f"; written to {where}." if where else ".")
    )
    if left_out:
        sys.exit(f"error: {left_out} of {done + left_out} {what}s could not be read.")
