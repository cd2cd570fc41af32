"""A made-up kind of address, as those of object stores, that Detectron2 is told how to read."""

from io import BytesIO
from pathlib import Path

from detectron2.utils.file_io import PathHandler, PathManager

PREFIX = "elsewhere://"


class Elsewhere(PathHandler):
    """Reads files of a folder, which nothing but this handler knows."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def _get_supported_prefixes(self):
        return [PREFIX]

    def _open(self, path, mode="r", buffering=-1, **kwargs):
        assert mode == "rb"
        return BytesIO((self.folder / path.removeprefix(PREFIX)).read_bytes())

    def _get_local_path(self, path, force=False, **kwargs):
        return str(self.folder / path.removeprefix(PREFIX))


def put_elsewhere(folder: Path) -> str:
    """Let the files of ``folder`` be read by the prefix that is returned, and by no other folder's
    from now on."""
    PathManager.register_handler(Elsewhere(folder), allow_override=True)
    return PREFIX
