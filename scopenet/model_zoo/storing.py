"""Writing into the folder of a zoo: killed at any moment, its index names whole models only."""

import os
import shutil
from pathlib import Path

from filelock import FileLock

from ..atomic import sync_folder, write_file, write_synced
from .card import write_table
from .index import INDEX, Entry, dump_index, parse_index
from .root import is_intact

TABLE = "MODEL_ZOO.md"
_LOCK = ".lock"
_UNFINISHED = ".unfinished"  # a folder or a file that is being written, by who holds the lock


def store(zoo: Path, name: str, entry: Entry, files: dict[str, bytes]) -> None:
    """Add an entry to the index, or put it in place of the one of that name, whose files stay: the
    addresses of weights that people have noted remain good.

    Args:
        zoo: its folder, made if need be. Several processes may add to it at once.
        name: of the config.
        files: the contents of ``entry.files``.

    Raises:
        ConfigError: the index that is there is none.
    """
    zoo.mkdir(parents=True, exist_ok=True)
    with FileLock(zoo / _LOCK):
        index = zoo / INDEX
        entries = parse_index(index.read_bytes(), str(index)) if index.exists() else {}
        _write_folder(zoo, entry, files)
        entries[name] = entry
        _write(zoo, INDEX, dump_index(entries))
        _write(zoo, TABLE, write_table(entries).encode())


def _write_folder(zoo: Path, entry: Entry, files: dict[str, bytes]) -> None:
    folder, unfinished = zoo / entry.folder, zoo / _UNFINISHED
    if folder.is_dir() and all(_is_intact(folder / x, entry, x) for x in entry.files):
        return
    _remove(unfinished)
    unfinished.mkdir()
    for name, content in files.items():
        write_synced(unfinished / name, content)
    sync_folder(unfinished)
    _remove(folder)  # damaged
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(unfinished, folder)
    for parent in folder.relative_to(zoo).parents:
        sync_folder(zoo / parent)


def _is_intact(path: Path, entry: Entry, name: str) -> bool:
    return path.is_file() and is_intact(path.read_bytes(), entry.files[name])


def _write(zoo: Path, name: str, content: bytes) -> None:
    path, unfinished = zoo / name, zoo / _UNFINISHED
    if path.is_file() and path.read_bytes() == content:
        return
    _remove(unfinished)
    write_file(path, lambda f: f.write(content), unfinished=unfinished)


def _remove(path: Path) -> None:
    """What is there, of whichever kind."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
