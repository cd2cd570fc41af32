"""Looking at very many images on many machines: Ray Data gives shards to workers that hold the
detector, starts those that die again and repeats what they were at; see docs/scale.md."""

import argparse
import json
import logging
import math
import os
import socket
from collections.abc import Iterator
from copy import copy
from importlib import import_module
from itertools import groupby
from operator import attrgetter
from typing import Any

import pyarrow as pa

from ..detector import Detector
from ..errors import ConfigError, import_extra
from ..storage import Folder, is_uri, open_folder
from .many import begin_run, end_run, failed_row, progress_bar, rows
from .shards import Numbered, write_shards, write_text
from .sources import Item

TRIES = 3  # an image at which a worker has died so often is set aside


class Attempts:
    """Knows of a shard whether a worker has died of it, and at which images, by a file that is
    there as long as the shard is not."""

    def __init__(self, folder: Folder, number: int):
        self.folder, self.name = folder, f"_trying-{number:06d}.json"
        self.has_failed = folder.has(self.name)
        known = json.loads(folder.read(self.name)) if self.has_failed else {}
        self.deaths = {int(index): count for index, count in known.items()}
        if not self.has_failed:
            self._write({})

    def _write(self, deaths: dict[int, int]) -> None:
        """Write how often workers have died at which image, by its place in the shard."""
        write_text(self.folder, self.name, json.dumps(deaths))

    def trying(self, index: int) -> bool:
        """Note that this image is looked at next, or return False if that was tried too often."""
        deaths = self.deaths.get(index, 0)
        if deaths < TRIES:
            self._write(self.deaths | {index: deaths + 1})
        return deaths < TRIES

    def done(self) -> None:
        """Forget all of it: the shard is there."""
        self.folder.remove(self.name)


def shard_rows(
    detector: Detector, items: list[Numbered], score_thresh: float, attempts: Attempts
) -> Iterator[Numbered]:
    """Yield the rows of a shard; if a worker has died of it, image by image, so that the next death
    tells which one it is."""
    if not attempts.has_failed:
        yield from rows(detector, items, score_thresh)
        return
    for index, item in enumerate(items):
        if attempts.trying(index):
            yield from rows(detector, [item], score_thresh)
        else:
            reason = f"the worker that looked at it died, {TRIES} times"
            yield item._replace(content=failed_row(item.content, reason))


class Worker:
    """Looks at shards with a detector that it loads once: what Ray Data calls in its processes."""

    def __init__(self, args: argparse.Namespace, folder: str, started_in: str):
        self.args, self.folder, self.started_in = args, folder, started_in
        self.detector: Detector | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Look at the shard of one row; return how many images it has, how many of them failed, and
        what the user has to mend, or ""."""
        (shard,) = batch.to_pylist()
        try:
            counts, said = self.look_at(**shard), ""
        except (ConfigError, OSError) as error:  # as text: not every error can be sent
            counts, said = (0, 0), str(error)
        return pa.table({"done": [counts[0]], "failed": [counts[1]], "said": [said]})

    def look_at(self, number: int, paths: list[str], image_ids: list[int | None]) -> tuple:
        """Write a shard, and count its images and those that failed."""
        if self.detector is None:
            self.detector = _load(self.args, self.started_in)
        folder = open_folder(self.folder)
        attempts = Attempts(folder, number)
        items = [
            Numbered(number, Item(path, path, image_id))
            for path, image_id in zip(paths, image_ids, strict=True)
        ]
        found = shard_rows(self.detector, items, self.args.confidence_threshold, attempts)
        failed = sum(x["error"] is not None for x in write_shards(found, folder, self.args.format))
        attempts.done()
        return len(items), failed


def _load(args: argparse.Namespace, started_in: str) -> Detector:
    from .command import load_detector

    import_module("scopenet.registration")  # this process was not started by the program
    if os.path.isdir(started_in):  # of a machine with the same files: relative paths start there
        os.chdir(started_in)
    return load_detector(args)


def look_at_many_with_ray(args: argparse.Namespace) -> None:
    """Write shards into the folder ``--output``, see docs/scale.md; the workers are those of the
    cluster of ``$RAY_ADDRESS``, or of one that is started here."""
    ray = import_extra("ray", "ray")
    import_extra("ray.data", "ray")
    detector = _check(args)
    run = begin_run(args)
    folder = str(run.folder)  # absolute, as Ray's processes start in a folder of their own
    folder = folder if is_uri(folder) else os.path.abspath(folder)
    shards = [
        _table(number, [x.content for x in group])
        for number, group in groupby(run.items(args.shard_size), key=attrgetter("number"))
    ]
    done = failed = 0
    with progress_bar(run, args.shard_size) as progress:
        for row in _map(ray, shards, args, folder):
            if row["said"]:
                raise ConfigError(row["said"])
            done += row["done"]
            failed += row["failed"]
            progress.update(row["done"])
    end_run(run, args, detector, done, failed)


def _check(args: argparse.Namespace) -> Detector:
    """Say what is wrong with the flags and the detector before anything starts; return it."""
    from .command import load_detector

    if any(x.lower().endswith(".tar") for x in args.input):
        raise ConfigError(
            "--engine ray takes no tar files, as they cannot be divided; leave it out."
        )
    if args.worker_cpus is not None and args.worker_cpus < 1:
        raise ConfigError(f"--worker-cpus must be at least 1, got {args.worker_cpus}.")
    here = copy(args)
    here.device = "cpu"  # a machine that only gives out work may have no GPU
    return load_detector(here)


def _table(number: int, items: list[Item]) -> pa.Table:
    columns = {
        "number": [number],
        "paths": [[x.path for x in items]],
        "image_ids": pa.array([[x.image_id for x in items]], pa.list_(pa.int64())),
    }
    return pa.table(columns)


def _map(ray: Any, shards: list, args: argparse.Namespace, folder: str) -> Iterator[dict]:
    """Let the workers look at shards, and yield what they say of each."""
    if not shards:
        return
    _start(ray)
    try:
        cores = max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
        args.worker_cpus = args.worker_cpus or min(4, math.floor(cores))
        workers = ray.data.from_arrow(shards).map_batches(
            Worker,
            fn_constructor_args=(args, folder, os.getcwd()),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(shards)),
            num_cpus=args.worker_cpus,
            num_gpus=1 if (args.device or "").startswith("cuda") else None,
        )
        yield from workers.iter_rows()
    finally:
        ray.shutdown()


def _start(ray: Any) -> None:
    """Join the cluster, or start one; neither says more than what is wrong."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unless asked for
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS", "local")
    options = {"include_dashboard": False} if address == "local" else {}
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    try:
        if colon:  # Ray itself would wait for many minutes
            socket.create_connection((host, int(port)), timeout=20).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"There is no Ray cluster that lets one in at $RAY_ADDRESS, {address} ({reason})."
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one of ours
    logging.getLogger("ray.data").setLevel(logging.ERROR)
