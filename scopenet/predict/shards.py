"""Results of very many images: a folder of shards, each whole or not there, one row per image.

A run that ended early goes on with the shards that are missing; what its ``_run.json`` says must be
what the first one was started with.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..atomic import replacing, write_json
from ..errors import ConfigError, import_extra

FORMATS = ("jsonl", "parquet")
RUN = "_run.json"  # readers of folders of Parquet files skip what begins so
ROW_GROUP = 100  # rows of Parquet that are held until they are written

Row = dict[str, Any]
T = TypeVar("T")


class Numbered(NamedTuple):
    """An image, or its row, of the shard with this number."""

    number: int
    content: Any


def shard_path(folder: Path, file_format: str, number: int) -> Path:
    """Name the file of a shard."""
    return folder / f"detections-{number:06d}.{file_format}"


def missing(items: Iterable[T], path_of: Callable[[int], Path], size: int) -> Iterator[Numbered]:
    """Yield the items, ``size`` of which make a shard, that belong to shards without a file."""
    is_there = False
    for index, item in enumerate(items):
        number, place = divmod(index, size)
        if place == 0:
            is_there = path_of(number).exists()
        if not is_there:
            yield Numbered(number, item)


def num_whole(total: int, path_of: Callable[[int], Path], size: int) -> int:
    """Count the items, of ``total``, in shards that are there."""
    starts = range(0, total, size)
    return sum(min(size, total - x) for x in starts if path_of(x // size).exists())


def begin(folder: Path, run: dict[str, Any], resume: bool) -> None:
    """Make the folder of a run, or find out that it is the one to go on with; a ConfigError says
    that it holds another run, or one that would be written over."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"--output: {folder} is a file; name a folder.") from error
    path = folder / RUN
    if not path.exists():
        if any(folder.glob("detections-*")):
            raise ConfigError(f"{folder} holds detections of another program; name another folder.")
        return write_json(path, run)
    if not resume:
        raise ConfigError(f"{folder} holds a run already; go on with it by --resume.")
    known = json.loads(path.read_text())
    if changed := [x for x in run if run[x] != known.get(x)]:
        raise ConfigError(
            f"{folder} holds a run with another {changed[0]} ({known.get(changed[0])}, not "
            f"{run[changed[0]]}); name another folder."
        )


def write_shards(rows: Iterable[Numbered], path_of: Callable[[int], Path]) -> Iterator[Row]:
    """Write rows, those of a shard one after another, and yield each."""
    for number, group in itertools.groupby(rows, key=attrgetter("number")):
        with open_shard(path_of(number)) as write:
            for _, row in group:
                write(row)
                yield row


@contextmanager
def open_shard(path: Path) -> Iterator[Callable[[Row], None]]:
    """Yield what writes a row; the file is there once all are written."""
    open_as = {".jsonl": _open_lines, ".parquet": _open_parquet}[path.suffix]
    with replacing(path) as unfinished, open_as(unfinished) as write:
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
