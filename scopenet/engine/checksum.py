"""Checkpoints with a checksum beside them, and the choice of the newest sound one.

The checksums inside torch's zip files cover neither their headers nor the table of their contents,
so that not every flipped bit is seen by them: a SHA-256 of the whole file lies beside it.
"""

import hashlib
import re
import zipfile
from pathlib import Path

from ..atomic import write_file
from ..config_file import ConfigError

TAG = "last_checkpoint"  # Detectron2's file with the name of the newest checkpoint
_CHECKPOINT = re.compile(r"model_(\d{7}|final)\.pth")


def checksum_file(checkpoint: Path) -> Path:
    """Where the checksum is; ``sha256sum --check`` reads it."""
    return checkpoint.with_name(checkpoint.name + ".sha256")


def write_checkpoint(path: Path, content: bytes) -> None:
    """Write a checkpoint, its checksum, then the tag: each is whole or not there, and the tag names
    what has both.

    Raises:
        OSError: e.g. the disk is full; the checkpoint that the tag names is as it was.
    """
    checksum_file(path).unlink(missing_ok=True)  # of an older file of the same name
    write_file(path, content)
    line = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
    write_file(checksum_file(path), line.encode())
    write_file(path.with_name(TAG), path.name.encode())


def is_sound(path: Path) -> bool:
    """Whether a checkpoint is what was written. One without a checksum, of another program or of a
    run that was killed before it, is sound if those inside the file are right."""
    if not path.is_file():
        return False
    if checksum_file(path).is_file():
        expected = checksum_file(path).read_bytes().split()[:1]
        return [hashlib.sha256(path.read_bytes()).hexdigest().encode()] == expected
    try:
        with zipfile.ZipFile(path) as f:
            return f.testzip() is None
    except Exception:  # a damaged file makes the parser raise nearly anything
        return False


def list_checkpoints(folder: Path) -> list[Path]:
    """Those of a training, the tagged one first, then the newest first."""
    found = [x for x in folder.glob("model_*.pth") if _CHECKPOINT.fullmatch(x.name)]
    found.sort(key=lambda x: (x.stat().st_mtime_ns, x.name), reverse=True)
    tag = folder / TAG
    name = tag.read_bytes().decode(errors="replace").strip("\0\n ") if tag.is_file() else ""
    tagged = [folder / name] if _CHECKPOINT.fullmatch(name) else []
    return [*tagged, *(x for x in found if x not in tagged)]


def newest_sound(folder: Path) -> tuple[Path, list[Path]]:
    """
    Returns:
        the checkpoint to go on from, and those before it that are damaged.

    Raises:
        ConfigError: none is sound.
    """
    damaged: list[Path] = []
    for path in list_checkpoints(folder):
        if is_sound(path):
            return path, damaged
        damaged.append(path)
    names = ", ".join(x.name for x in damaged) or TAG
    raise ConfigError(
        f"No checkpoint in {folder} is sound (damaged or missing: {names}); remove them to start "
        "anew, or train in another OUTPUT_DIR."
    )
