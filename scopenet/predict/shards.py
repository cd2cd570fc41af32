"""Results of very many images: a folder of shards, each whole or not there, one row per image.

A run that ended early goes on with the shards that are missing; what its ``_run.json`` says must be
what the first one was started with. The rows of images that could not be looked at are in
``_failures.jsonl``, too.
"""

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..errors import ConfigError, import_extra
from ..storage import Folder

# What the files of a format are; of the lines of "coco" one json is made at the end.
FORMATS = {"jsonl": "jsonl", "parquet": "parquet", "coco": "jsonl"}
# Readers of folders of Parquet files skip what begins so.
RUN, FAILURES = "_run.json", "_failures.jsonl"
ROW_GROUP = 100  # rows of Parquet that are held until they are written

Row = dict[str, Any]
T = TypeVar("T")


class Numbered(NamedTuple):
    """An image, or its row, of the shard with this number."""

    number: int
    content: Any


def shard_name(number: int, file_format: str) -> str:
    """Name the file of a shard."""
    return f"detections-{number:06d}.{FORMATS[file_format]}"


def whole_shards(folder: Folder) -> set[int]:
    """Return the numbers of the shards that are there."""
    found = (re.fullmatch(r"detections-(\d{6,})\.\w+", x) for x in folder.names())
    return {int(x[1]) for x in found if x}


def missing(items: Iterable[T], whole: Collection[int], size: int) -> Iterator[Numbered]:
    """Yield the items, ``size`` of which make a shard, that belong to no ``whole`` one."""
    for index, item in enumerate(items):
        if index // size not in whole:
            yield Numbered(index // size, item)


def num_whole(total: int, whole: Collection[int], size: int) -> int:
    """Count the items, of ``total``, in shards that are there."""
    return sum(min(size, total - x * size) for x in whole if x * size < total)


def begin(folder: Folder, run: dict[str, Any], resume: bool) -> None:
    """Note what a run is started with, or find out that the folder is the one to go on with; a
    ConfigError says that it holds another run, or one that would be written over."""
    if not folder.has(RUN):
        if whole_shards(folder):
            raise ConfigError(f"{folder} holds detections of another program; name another folder.")
        return write_text(folder, RUN, json.dumps(run))
    if not resume:
        raise ConfigError(f"{folder} holds a run already; go on with it by --resume.")
    known = json.loads(folder.read(RUN))
    if changed := [x for x in run if run[x] != known.get(x)]:
        raise ConfigError(
            f"{folder} holds a run with another {changed[0]} ({known.get(changed[0])}, not "
            f"{run[changed[0]]}); name another folder."
        )


def write_text(folder: Folder, name: str, text: str) -> None:
    """Write a file whole or not at all."""
    with folder.writing(name) as path:
        path.write_text(text, encoding="utf-8")


def write_shards(rows: Iterable[Numbered], folder: Folder, file_format: str) -> Iterator[Row]:
    """Write rows, those of a shard one after another, and yield each."""
    for number, group in itertools.groupby(rows, key=attrgetter("number")):
        failures = []
        with open_shard(folder, shard_name(number, file_format)) as write:
            for _, row in group:
                write(row)
                if row["error"] is not None:
                    failures.append(json.dumps(row, ensure_ascii=False) + "\n")
                yield row
            if failures:  # before the shard is there: who goes on will not look at it again
                write_text(folder, f"_failures-{number:06d}.jsonl", "".join(failures))


def write_failures(folder: Folder) -> None:
    """Make one table of the rows with errors of all shards, if there are any."""
    parts = sorted(x for x in folder.names() if re.fullmatch(r"_failures-\d{6,}\.jsonl", x))
    if parts:
        with folder.writing(FAILURES) as path, open(path, "wb") as f:
            for x in parts:
                f.write(folder.read(x))


@contextmanager
def open_shard(folder: Folder, name: str) -> Iterator[Callable[[Row], None]]:
    """Yield what writes a row; the file is there once all are written."""
    with folder.writing(name) as unfinished:
        open_as = {".jsonl": _open_lines, ".parquet": _open_parquet}[unfinished.suffix]
        with open_as(unfinished) as write:
            yield write


@contextmanager
def _open_lines(path: Path) -> Iterator[Callable[[Row], None]]:
    with open(path, "w", encoding="utf-8") as f:
        yield lambda row: print(json.dumps(row, ensure_ascii=False), file=f)


@contextmanager
def _open_parquet(path: Path) -> Iterator[Callable[[Row], None]]:
    arrow, parquet = import_extra("pyarrow", "parquet"), import_extra("pyarrow.parquet", "parquet")
    held: list[Row] = []
    with parquet.ParquetWriter(path, schema(arrow)) as writer:

        def flush() -> None:
            writer.write_table(arrow.Table.from_pylist(held, writer.schema))
            held.clear()

        def write(row: Row) -> None:
            held.append(row)
            if len(held) == ROW_GROUP:
                flush()

        yield write
        if held:
            flush()


def schema(arrow: Any) -> Any:
    """Return the columns of a Parquet file, the keys of a line of JSON."""
    number, numbers = arrow.float32(), arrow.list_(arrow.float32())
    detection = {
        "category_id": arrow.int64(),
        "category_name": arrow.string(),
        "bbox": numbers,
        "score": number,
        "loc_score": number,
        "border_scores": numbers,
        "border_stds": numbers,
    }
    return arrow.schema(
        {
            "path": arrow.string(),
            "image_id": arrow.int64(),
            "width": arrow.int64(),
            "height": arrow.int64(),
            "error": arrow.string(),
            "detections": arrow.list_(arrow.struct(list(detection.items()))),
        }
    )
