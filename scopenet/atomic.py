"""Files that are there whole or not at all: written aside, synced, then moved into place."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

UNFINISHED = ".unfinished"  # how the name of what is being written begins


def sync_folder(path: Path) -> None:
    """Sync the names in a folder, which then outlive a power failure, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, unfinished: Path | None = None) -> Iterator[Path]:
    """Yield the name of a file to be written, which takes the place of ``path`` if all goes well.

    Whoever reads ``path``, then or after a crash, finds what was there before or all of the new.

    Args:
        unfinished: the file's name, on the same disk; it is written over what a process that was
            killed has left there. By default next to ``path``, of the same suffix.

    Raises:
        OSError: e.g. the disk is full; it names ``path``, where the old contents still are.
    """
    unfinished = unfinished or path.with_name(f"{UNFINISHED}-{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb") as f:
            os.fsync(f.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def write_file(
    path: Path, write: Callable[[BinaryIO], object], *, unfinished: Path | None = None
) -> None:
    """Let ``write``, which is given a file open for writing and reading, make ``path`` whole or not
    at all, see :func:`replacing`."""
    with replacing(path, unfinished) as name, open(name, "w+b") as f:
        write(f)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, in UTF-8, whole or not at all; see :func:`write_file`."""
    write_file(path, lambda f: f.write(text.encode("utf-8")))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` to ``path`` as JSON, whole or not at all; see :func:`write_file`."""
    write_text(path, json.dumps(content))
