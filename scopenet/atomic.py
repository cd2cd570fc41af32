"""Files that are whole or not there: written aside, synced, then moved into place."""

import os
from pathlib import Path

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


def write_file(path: Path, content: bytes, *, unfinished: Path | None = None) -> None:
    """Put ``content`` at ``path``: whoever reads it, then or after a crash, finds the old contents
    or the new ones.

    Args:
        unfinished: where it is written first, on the same disk; by default next to ``path``.

    Raises:
        OSError: e.g. the disk is full; what was at ``path`` is still there, and nothing else.
    """
    unfinished = unfinished or path.with_name(path.name + UNFINISHED)
    try:
        write_synced(unfinished, content)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
