"""Which files are written, checked before anything is looked at."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..images import listed
from .video import CODECS

WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def plan_pictures(files: Sequence[Path], output: Path) -> list[Path]:
    """Say where the picture of each file goes: into the folder ``output`` under the file's own
    name, or, of a single file, to ``output`` if that has the suffix of an image.

    Raises:
        ConfigError: an input or another picture would be overwritten, or ``output`` is neither.
    """
    suffix = output.suffix.lower()
    if output.is_dir() or not suffix:
        pictures = [output / _picture_name(x) for x in files]
    elif suffix not in WRITTEN_SUFFIXES:
        raise ConfigError(
            f"--output {output} is neither a folder nor a file in {listed(WRITTEN_SUFFIXES)}."
        )
    elif len(files) > 1:
        raise ConfigError(f"--output {output} is one file, but there are {len(files)} images.")
    else:
        pictures = [output]
    _make_folder(pictures[0].parent, "--output")
    sources, planned = {x.resolve() for x in files}, set()
    for picture in pictures:
        if picture.resolve() in sources:
            raise ConfigError(f"{picture} is an input and would be overwritten; change --output.")
        if picture in planned:
            raise ConfigError(f"Two inputs are called {picture.name}; give one --output for each.")
        planned.add(picture)
    return pictures


def _picture_name(file: Path) -> str:
    return file.name if file.suffix.lower() in WRITTEN_SUFFIXES else f"{file.name}.png"


def _make_folder(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{flag}: {folder} is a file; name a folder.") from error
    except OSError as error:
        raise ConfigError(f"{flag}: {folder} cannot be made ({error.strerror}).") from error


def check_json(path: Path) -> None:
    """Make the folder of a JSON file that is to be written.

    Raises:
        ConfigError: it cannot be one.
    """
    if path.suffix.lower() != ".json" or path.is_dir():
        raise ConfigError(f"--json {path} is not the name of a .json file.")
    _make_folder(path.parent, "--json")


def check_video(path: Path) -> None:
    """Make the folder of a video that is to be written.

    Raises:
        ConfigError: it cannot be one that OpenCV writes.
    """
    if path.suffix.lower() not in CODECS or path.is_dir():
        raise ConfigError(f"--output {path} is not the name of an {listed(list(CODECS))} file.")
    _make_folder(path.parent, "--output")
