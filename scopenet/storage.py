"""Folders to write results into, of this machine or of an object store (``s3://``, ``gs://``), and
files of both; needs pyarrow for the latter only."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from .atomic import UNFINISHED, replacing
from .errors import ConfigError, import_extra, refused

EXTRA = "parquet"  # of setup.py, brings pyarrow


class Folder(Protocol):
    """Holds files, each of which is there whole or not at all."""

    def names(self) -> list[str]:
        """List the names of the files, in no order."""

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""

    def read(self, name: str) -> bytes:
        """Return what is in a file."""

    def writing(self, name: str) -> Any:
        """Return a context that yields a path to write, and whose end puts that file in place."""

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""


class LocalFolder:
    """A :class:`Folder` of this machine, which is made where it is missing."""

    def __init__(self, path: Path):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"{path} is a file, or below one; name a folder.") from error

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        return [x.name for x in self.path.iterdir() if not x.name.startswith(UNFINISHED)]

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def writing(self, name: str) -> Any:
        return replacing(self.path / name)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


class RemoteFolder:
    """A :class:`Folder` of an object store: a file is written here, then uploaded as one object."""

    def __init__(self, uri: str):
        self.uri = uri
        self.system, self.path = _open(uri)

    def __str__(self) -> str:
        return self.uri

    def names(self) -> list[str]:
        with refused(f"{self.uri} cannot be listed"):
            return [x.base_name for x in _list(self.system, self.path)]

    def has(self, name: str) -> bool:
        with refused(f"{self.uri} cannot be read"):
            return self.system.get_file_info(f"{self.path}/{name}").is_file

    def read(self, name: str) -> bytes:
        with self.system.open_input_stream(f"{self.path}/{name}") as f:
            return f.read()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            yield path
            with refused(f"{name} cannot be written to {self.uri}"):
                self._upload(path, f"{self.path}/{name}")

    def _upload(self, path: Path, to: str) -> None:
        with open(path, "rb") as f, self.system.open_output_stream(to) as stream:
            while piece := f.read(2**24):
                stream.write(piece)

    def remove(self, name: str) -> None:
        if self.has(name):
            self.system.delete_file(f"{self.path}/{name}")


def is_uri(name: str) -> bool:
    """Tell an address such as ``s3://bucket/name`` from a path."""
    return "://" in name


def without_query(name: str) -> str:
    """Return an address without what follows its "?"; paths stay as they are."""
    return name.partition("?")[0] if is_uri(name) else name


def local_path(name: str) -> str:
    """Return the path in place of a ``file://`` address; others stay as they are."""
    return name.removeprefix("file://")


def open_folder(name: str) -> Folder:
    """Open the folder of a path or an address to write into; a ConfigError says what is wrong with
    it."""
    name = local_path(name)
    return RemoteFolder(name) if is_uri(name) else LocalFolder(Path(name))


def read_file(name: str) -> bytes:
    """Return what is in the file of a path or an address; an OSError says that it is not there."""
    name = local_path(name)
    if not is_uri(name):
        return Path(name).read_bytes()
    system, path = _open(name)
    with system.open_input_stream(path) as f:
        return f.read()


def files_in(uri: str) -> list[str]:
    """List the addresses of the files in the folder of an address, in the order of their names; it
    is empty if there is no such folder."""
    system, path = _open(uri)
    address, _, query = uri.partition("?")
    start = address.rstrip("/").removesuffix(path)
    names = sorted(x.path for x in _list(system, path))
    return [f"{start}{x}{'?' if query else ''}{query}" for x in names]


def _open(uri: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it, whatever characters it has."""
    import_extra("pyarrow.fs", EXTRA)
    address, mark, query = uri.partition("?")
    scheme, _, place = address.partition("://")
    bucket, _, inner = place.partition("/")
    try:
        system, root = _connect(f"{scheme}://{bucket}{mark}{query}")
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"{uri} is no address that can be opened ({reason}).") from error
    return system, f"{root.rstrip('/')}/{inner}".rstrip("/")


@cache  # once for all the images of a store: each has connections of its own
def _connect(root: str) -> tuple[Any, str]:
    return import_module("pyarrow.fs").FileSystem.from_uri(root)


def _list(system: Any, path: str) -> list[Any]:
    fs = import_extra("pyarrow.fs", EXTRA)
    found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return [x for x in found if x.type == fs.FileType.File]
