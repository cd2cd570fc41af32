"""A zoo: a folder, or the same folder behind an http(s) address, which can only be read."""

import http.client
import logging
import os
import shutil
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import urlopen
from uuid import uuid4

from filelock import FileLock
from iopath.common.file_io import get_cache_dir

from ..atomic import UNFINISHED, sync_folder, write_file
from ..errors import ConfigError
from .card import write_table
from .index import Entry, File, dump_index, parse_index

INDEX, TABLE = "index.json", "MODEL_ZOO.md"
TIMEOUT = 30.0  # seconds without an answer
MAX_INDEX_BYTES = 100_000_000
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Zoo:
    """Reads and adds models; what is wrong with a zoo is said by a ConfigError."""

    def __init__(self, root: str | os.PathLike):
        root = os.fspath(root)
        self.is_address = "://" in root
        if self.is_address and not root.startswith(("https://", "http://")):
            raise ConfigError(f"The model zoo {root} is neither a folder nor an http(s) address.")
        if root.startswith("http://") and urlsplit(root).hostname not in THIS_MACHINE:
            logging.getLogger(__name__).warning(
                f"{root} is plain http: whoever is on the way can replace a model and its sha256; "
                "use https."
            )
        self.root = root.rstrip("/")

    def location(self, path: str) -> str:
        """Return the file name or the address of a path in the zoo."""
        return f"{self.root}/{path}"

    def entries(self) -> dict[str, Entry]:
        """Read what is published, by the names of the configs."""
        where = self.location(INDEX)
        return parse_index(self._read(where, MAX_INDEX_BYTES), where)

    def fetch(self, entry: Entry, name: str) -> Path:
        """Return a file of the entry, on this machine and with the right sha256. Downloads are kept
        where Detectron2 keeps its own (``$FVCORE_CACHE``), by their sha256."""
        file, where = entry.files[name], self.location(f"{entry.folder}/{name}")
        if not self.is_address:
            self._read_right(where, file)
            return Path(where)
        kept = Path(get_cache_dir(), "scopenet_model_zoo", file.sha256, name)
        if kept.is_file() and File.of(kept.read_bytes()).sha256 == file.sha256:
            return kept
        try:
            content = self._read_right(where, file)
        except ConfigError:
            kept.unlink(missing_ok=True)
            raise
        kept.parent.mkdir(parents=True, exist_ok=True)
        own = kept.with_name(f".{uuid4()}")  # others may download the same
        write_file(kept, lambda f: f.write(content), unfinished=own)
        return kept

    def _read_right(self, where: str, file: File) -> bytes:
        """Return the content of a file; a ConfigError says that it has another sha256."""
        content = self._read(where, file.bytes + 1)
        if File.of(content).sha256 != file.sha256:
            raise ConfigError(
                f"{where} does not have the sha256 that the zoo's index names: it was damaged or "
                "replaced; try again, and if that does not help have the model published again."
            )
        return content

    def add(self, name: str, entry: Entry, files: dict[str, bytes]) -> None:
        """Put an entry and the contents of its files into the zoo. It takes the place of the one of
        that name, whose files stay: the addresses that people have noted remain good.

        Several processes may add at once; one that is killed leaves an index of whole models only.
        """
        os.makedirs(self.root, exist_ok=True)
        with FileLock(self.location(".lock")):
            entries = self.entries() if os.path.exists(self.location(INDEX)) else {}
            entries[name] = entry
            shutil.rmtree(self.location(UNFINISHED), ignore_errors=True)  # of an older version
            for file, content in files.items():
                self._write(f"{entry.folder}/{file}", content)
            self._write(INDEX, dump_index(entries))
            self._write(TABLE, write_table(entries).encode())

    def _write(self, name: str, content: bytes) -> None:
        # By who holds the lock: one name is enough.
        path, unfinished = Path(self.location(name)), Path(self.location(UNFINISHED))
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda f: f.write(content), unfinished=unfinished)
        for folder in Path(name).parents:  # new ones are to outlive a power failure
            sync_folder(Path(self.root, folder))

    def _read(self, where: str, max_bytes: int) -> bytes:
        try:
            with urlopen(where, timeout=TIMEOUT) if self.is_address else open(where, "rb") as f:
                return _read_at_most(f, max_bytes)
        except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"The model zoo's {where} cannot be read ({reason}).") from error


def _read_at_most(f: BinaryIO, max_bytes: int) -> bytes:
    """Read in pieces: ``max_bytes`` may be more than the memory holds."""
    content = bytearray()
    while len(content) < max_bytes and (piece := f.read(2**20)):
        content += piece
    return bytes(content[:max_bytes])
