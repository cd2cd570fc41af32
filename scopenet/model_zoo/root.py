"""Where a zoo is, a folder or an address, and reading from it."""

import difflib
import hashlib
import http.client
import os
import tempfile
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import urlopen

from iopath.common.file_io import get_cache_dir

from ..errors import ConfigError
from .index import INDEX, Entry, File, parse_index

VARIABLE = "SCOPENET_MODEL_ZOO"
TIMEOUT = 30.0  # seconds without an answer
MAX_INDEX_BYTES = 100_000_000


def is_intact(content: bytes, file: File) -> bool:
    return hashlib.sha256(content).hexdigest() == file.sha256


class Zoo:
    """
    Args:
        root: a folder or an http(s) address; by default what the environment variable
            ``SCOPENET_MODEL_ZOO`` says.

    Raises:
        ConfigError: there is no root, or it is an address of another kind.
    """

    def __init__(self, root: str | os.PathLike | None = None):
        root = os.fspath(root or os.environ.get(VARIABLE, ""))
        if not root:
            raise ConfigError(
                f"No model zoo is given; set {VARIABLE} or the argument `zoo` to its folder or "
                "address."
            )
        self.is_address = "://" in root
        if self.is_address and not root.startswith(("https://", "http://")):
            raise ConfigError(f"The model zoo {root} is neither a folder nor an http(s) address.")
        self.root = root.rstrip("/") or "/"

    def location(self, path: str) -> str:
        """The file name or the address of a path in the zoo."""
        return f"{self.root}/{path}" if self.is_address else str(Path(self.root, path))

    def entries(self) -> dict[str, Entry]:
        """
        Raises:
            ConfigError: the index cannot be read or is none.
        """
        where = self.location(INDEX)
        return parse_index(self._read(where, MAX_INDEX_BYTES), where)

    def entry(self, config_path: str) -> Entry:
        """What is published for a config, named relative to the project's configs.

        Raises:
            ConfigError: nothing is, or see :meth:`entries`.
        """
        entries, name = self.entries(), config_path.removeprefix("configs/")
        if name not in entries:
            close = difflib.get_close_matches(name, entries, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(entries)}."
            raise ConfigError(f"{self.root} has no trained model of {name}; {hint}")
        return entries[name]

    def fetch(self, entry: Entry, name: str) -> Path:
        """A file of the entry, on this machine and with the right sha256. Downloads are kept in
        the cache folder of Detectron2's own (``FVCORE_CACHE``), by their sha256.

        Raises:
            ConfigError: the file cannot be read, or it is not the one that the index names; a
                download is removed then.
        """
        file, where = entry.files[name], self.location(f"{entry.folder}/{name}")
        cached = Path(get_cache_dir(), "scopenet_model_zoo", file.sha256, name)
        path = cached if self.is_address else Path(where)
        if path.is_file() and is_intact(path.read_bytes(), file):
            return path
        content = self._read(where, file.bytes + 1)
        if not is_intact(content, file):
            cached.unlink(missing_ok=True)
            raise ConfigError(
                f"{where} does not have the sha256 that the zoo's index names: it was damaged or "
                "replaced; try again, and if that does not help have the model published again."
            )
        _keep(content, path)
        return path

    def _read(self, where: str, max_bytes: int) -> bytes:
        try:
            with urlopen(where, timeout=TIMEOUT) if self.is_address else open(where, "rb") as f:
                return _read_at_most(f, max_bytes)
        except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
            reason = getattr(reason, "strerror", None) or reason
            raise ConfigError(f"The model zoo's {where} cannot be read ({reason}).") from error


def _read_at_most(f: BinaryIO, max_bytes: int) -> bytes:
    """What comes after is left alone, however much it is."""
    content = bytearray()
    while len(content) < max_bytes and (chunk := f.read(min(2**20, max_bytes - len(content)))):
        content += chunk
    return bytes(content)


def _keep(content: bytes, path: Path) -> None:
    """Written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as f:
        try:
            f.write(content)
            f.flush()
            os.replace(f.name, path)
        except BaseException:
            os.unlink(f.name)
            raise
