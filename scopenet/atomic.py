"""Files that are there whole or not at all: written aside, synced, then moved into place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"  # suffix of what is being written


def write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())


def sync_folder(path: Path) -> None:
    """So that names in it outlive a power failure, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(
    path: Path, write: Callable[[BinaryIO], None], *, unfinished: Path | None = None
) -> None:
    """Whoever reads ``path``, then or after a crash, finds what was there before or all of the new.

    Args:
        write: is given a file open for writing and reading.
        unfinished: where it is written first, on the same disk, over what a process that was killed
            has left there; by default next to ``path``.

    Raises:
        OSError: e.g. the disk is full; it names ``path``, where the old contents still are.
    """
    unfinished = unfinished or path.with_name(path.name + UNFINISHED)
    try:
        with open(unfinished, "w+b") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    sync_folder(path.parent)
