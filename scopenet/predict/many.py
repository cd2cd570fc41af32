"""Looking at very many images: rows are written as they are found, and nothing is held."""

import argparse
import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from tqdm import tqdm

from ..detector import Detector
from ..errors import ConfigError, ImageError
from .files import coco_results
from .shards import Numbered, Row, begin, missing, num_whole, shard_path, write_shards
from .sources import Item, find_sources, fingerprint


def rows(detector: Detector, items: Iterable[Numbered], score_thresh: float) -> Iterator[Numbered]:
    """Yield a row of what is found in each image, or of why it cannot be read."""
    items, to_detect = itertools.tee(items)
    found = detector.stream(numbered.content.image for numbered in to_detect)
    for numbered, result in zip(items, found, strict=True):
        yield numbered._replace(content=row_of(detector, numbered.content, result, score_thresh))


def row_of(
    detector: Detector, item: Item, found: dict[str, Any] | ImageError, score_thresh: float
) -> Row:
    """Make a row: the image, what is found in it (boxes XYWH in px of it), or the reason why
    not."""
    row = {"path": item.path, "image_id": item.image_id}
    if isinstance(found, ImageError):
        reason = str(found).replace(item.path, "it")
        return row | {"width": None, "height": None, "error": reason, "detections": []}
    instances = found["instances"]
    height, width = instances.image_size
    records = coco_results(instances[instances.scores >= score_thresh], detector, 0, "")
    for record in records:  # which are of the row
        del record["image_id"], record["file_name"]
    return row | {"width": width, "height": height, "error": None, "detections": records}


def look_at_many(args: argparse.Namespace, detector: Detector) -> None:
    """Write shards into the folder ``--output``, see docs/predict.md."""
    if args.shard_size < 1:
        raise ConfigError(f"--shard-size must be at least 1, got {args.shard_size}.")
    sources = find_sources(args.input, args.images)
    run = {
        "format": args.format,
        "shard_size": args.shard_size,
        "confidence_threshold": args.confidence_threshold,
        "model": args.model,
        "weights": args.weights,
        "overrides": args.opts,
        "images": fingerprint(sources),
    }
    begin(args.output, run, args.resume)
    path_of = partial(shard_path, args.output, args.format)
    counts = [x.paths and len(x.paths) for x in sources]
    total = None if None in counts else sum(counts)
    num_there = num_whole(total, path_of, args.shard_size) if total else 0
    items = missing(itertools.chain.from_iterable(sources), path_of, args.shard_size)
    found = rows(detector, items, args.confidence_threshold)
    num_done = num_damaged = 0
    progress = tqdm(write_shards(found, path_of), total=total, initial=num_there, unit="image")
    for row in progress:
        num_done += 1
        num_damaged += row["error"] is not None
    damaged = f", {num_damaged} of them unreadable (column error)" if num_damaged else ""
    print(f"{num_done} images looked at{damaged}; written to {args.output}.")
