"""Checkpoint files that carry their own checksum, and the choice of the newest sound one.

``torch.save`` writes a zip archive. The checksums in it cover neither its headers nor its table of
contents, so a SHA-256 of all of it becomes the archive's comment, which readers skip: one file,
that is moved into place with its checksum.
"""

import hashlib
import os
import re
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ...atomic import UNFINISHED, write_file
from ...errors import ConfigError

TAG = "last_checkpoint"  # Detectron2's file with the name of the checkpoint to go on from
_TO_GO_ON_FROM = re.compile(r"model_(\d{7}|final)\.pth")
_MARK = b"sha256:"
_COMMENT_BYTES = len(_MARK) + 64


def write_checkpoint(path: Path, data: dict[str, Any]) -> None:
    """Write ``data`` by ``torch.save``, then the tag if it is a checkpoint to go on from; no other
    process may write checkpoints into the folder. An OSError leaves those that are there as they
    were."""
    unfinished = path.with_name(UNFINISHED)
    write_file(path, partial(save_with_checksum, data), unfinished=unfinished)
    if _TO_GO_ON_FROM.fullmatch(path.name):
        name = path.name.encode()
        write_file(path.with_name(TAG), lambda f: f.write(name), unfinished=unfinished)


def save_with_checksum(data: dict[str, Any], f: BinaryIO) -> None:
    """Save as ``torch.save`` does to an empty file, open for writing and reading, with the SHA-256
    of the archive as its comment; raise the file's OSError, which torch hides behind its own."""
    try:
        torch.save(data, f)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    f.seek(-2, os.SEEK_END)  # an archive ends with the length of its comment
    f.write(_COMMENT_BYTES.to_bytes(2, "little"))
    size = f.tell()
    f.seek(0)
    digest = _sha256(f, size)
    f.seek(size)
    f.write(_MARK + digest)


def is_sound(path: Path) -> bool:
    """Tell whether the file is what was written. One without a checksum, of another program, is
    judged by those inside the archive."""
    try:
        with open(path, "rb") as f:
            size = max(0, os.fstat(f.fileno()).st_size - _COMMENT_BYTES)
            f.seek(size)
            comment = f.read()
            if comment.startswith(_MARK):
                f.seek(0)
                return _sha256(f, size) == comment.removeprefix(_MARK)
        with zipfile.ZipFile(path) as archive:
            # Without a comment it ends with the length of none; what is left of one is no archive.
            return comment.endswith(b"\0\0") and archive.testzip() is None
    except Exception:  # a damaged archive makes its reader raise nearly anything
        return False


def _sha256(f: BinaryIO, size: int) -> bytes:
    """Return the SHA-256 of the next ``size`` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := f.read(min(size, 2**20))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints to go on from, the tagged one first, then the newest first."""
    found = [x for x in folder.glob("model_*.pth") if _TO_GO_ON_FROM.fullmatch(x.name)]
    found.sort(key=lambda x: (x.stat().st_mtime_ns, x.name), reverse=True)
    tagged = _tagged(folder)
    return [*tagged, *(x for x in found if x not in tagged)]


def _tagged(folder: Path) -> list[Path]:
    """Return the checkpoint that the tag names, if it names one."""
    tag = folder / TAG
    name = tag.read_bytes().decode(errors="replace").strip() if tag.is_file() else ""
    return [folder / name] if _TO_GO_ON_FROM.fullmatch(name) else []


def newest_sound(folder: Path) -> tuple[Path, list[Path]]:
    """Choose the checkpoint to go on from; raise a ConfigError if none is sound. Return with it
    what should have been used instead, the tag or checkpoints, but is damaged or missing."""
    damaged = [] if _tagged(folder) else [folder / TAG]
    for path in list_checkpoints(folder):
        if is_sound(path):
            return path, damaged
        damaged.append(path)
    names = ", ".join(x.name for x in damaged)
    raise ConfigError(
        f"No checkpoint in {folder} is sound (damaged or missing: {names}); remove them to start "
        "anew, or train in another OUTPUT_DIR."
    )
