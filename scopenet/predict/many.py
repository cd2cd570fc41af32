"""Looking at very many images: rows are written as they are found, and nothing is held."""

import argparse
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tqdm import tqdm

from ..detector import Detector
from ..errors import ConfigError, ImageError, import_extra
from ..storage import Folder, open_folder
from .dataset import DATASET, write_dataset
from .files import coco_results
from .shards import (
    FAILURES,
    Numbered,
    Row,
    begin,
    missing,
    num_whole,
    whole_shards,
    write_failures,
    write_shards,
)
from .sources import Item, Source, find_sources, fingerprint


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
    if isinstance(found, ImageError):
        return failed_row(item, str(found).replace(item.path, "it"))
    instances = found["instances"]
    height, width = instances.image_size
    records = coco_results(instances[instances.scores >= score_thresh], detector, 0, "")
    for record in records:  # which are of the row
        del record["image_id"], record["file_name"]
    row = {"path": item.path, "image_id": item.image_id, "width": width, "height": height}
    return row | {"error": None, "detections": records}


def failed_row(item: Item, reason: str) -> Row:
    """Make the row of an image that could not be looked at."""
    row = {"path": item.path, "image_id": item.image_id, "width": None, "height": None}
    return row | {"error": reason, "detections": []}


class Run(NamedTuple):
    """What is to be looked at, and where the results go."""

    sources: list[Source]
    folder: Folder
    whole: set[int]  # shards that are there

    def items(self, shard_size: int) -> Iterator[Numbered]:
        """Yield the images that have not been looked at."""
        return missing(itertools.chain.from_iterable(self.sources), self.whole, shard_size)


def begin_run(args: argparse.Namespace) -> Run:
    """Find the images and begin a run in the folder ``--output``, or go on with one."""
    if args.shard_size < 1:
        raise ConfigError(f"--shard-size must be at least 1, got {args.shard_size}.")
    if args.format == "parquet":
        import_extra("pyarrow.parquet", "parquet")  # or else the folder would hold a run
    sources = find_sources(args.input, args.images)
    facts = {
        "format": args.format,
        "shard_size": args.shard_size,
        "confidence_threshold": args.confidence_threshold,
        "model": args.model,
        "weights": args.weights,
        "overrides": args.opts,
        "images": fingerprint(sources),
    }
    folder = open_folder(str(args.output))
    begin(folder, facts, args.resume)
    return Run(sources, folder, whole_shards(folder))


def progress_bar(run: Run, shard_size: int) -> tqdm:
    """Make a bar of all images, of which those in whole shards are done."""
    lists = [x.paths for x in run.sources if x.paths is not None]
    total = sum(map(len, lists)) if len(lists) == len(run.sources) else None
    there = num_whole(total, run.whole, shard_size) if total else 0
    return tqdm(total=total, initial=there, unit="image")


def end_run(run: Run, args: argparse.Namespace, detector: Detector, done: int, failed: int) -> None:
    """Make the table of failures and, if it is wanted, the COCO json, and print how many images
    were looked at."""
    write_failures(run.folder)
    why = f", {failed} of them failed (see {FAILURES})" if failed else ""
    print(f"{done} images looked at{why}; written to {run.folder}.")
    if args.format == "coco":
        start = write_dataset(run.folder, detector, run.sources, args.images)
        print(f"The file names in its {DATASET} start from {start}.")


def look_at_many(args: argparse.Namespace, detector: Detector) -> None:
    """Write shards into the folder ``--output``, see docs/predict.md."""
    run, done, failed = begin_run(args), 0, 0
    found = rows(detector, run.items(args.shard_size), args.confidence_threshold)
    with progress_bar(run, args.shard_size) as progress:
        for row in write_shards(found, run.folder, args.format):
            done += 1
            failed += row["error"] is not None
            progress.update()
    end_run(run, args, detector, done, failed)
