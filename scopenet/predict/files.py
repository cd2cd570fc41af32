"""Which files are looked at, and which are written."""

import glob
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")


def find_images(inputs: Sequence[str]) -> list[Path]:
    """The files of a list of files, folders (without the folders in them) and glob patterns.

    Raises:
        ConfigError: one of them gives none, or names a file that is no image by its suffix.
    """
    files = [x for one in inputs for x in _matches(one)]
    for x in files:
        if x.suffix.lower() in VIDEO_SUFFIXES:
            raise ConfigError(f"{x} is a video; give it with --video-input.")
        if x.suffix.lower() not in IMAGE_SUFFIXES:
            raise ConfigError(f"{x} is no image by its suffix, none of {_listed(IMAGE_SUFFIXES)}.")
    return list(dict.fromkeys(files))


def _matches(one: str) -> list[Path]:
    path = Path(one)
    if path.is_dir():
        found = sorted(x for x in path.iterdir() if x.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise ConfigError(f"The folder {one} holds no {_listed(IMAGE_SUFFIXES)} files.")
        return found
    if path.exists():
        return [path]
    found = [Path(x) for x in sorted(glob.glob(one, recursive=True)) if Path(x).is_file()]
    if not found:
        raise ConfigError(f"The input {one} does not exist, and matches nothing as a pattern.")
    return found


def plan_pictures(files: Sequence[Path], output: Path) -> list[Path]:
    """Where the picture of each file goes: into the folder ``output`` under the file's own name,
    or, of a single file, to ``output`` if that has the suffix of an image.

    Raises:
        ConfigError: an input or another picture would be overwritten, or ``output`` is neither.
    """
    suffix = output.suffix.lower()
    if output.is_dir() or not suffix:
        pictures = [output / _picture_name(x) for x in files]
    elif suffix not in WRITTEN_SUFFIXES:
        raise ConfigError(
            f"--output {output} is neither a folder nor a file in {_listed(WRITTEN_SUFFIXES)}."
        )
    elif len(files) > 1:
        raise ConfigError(f"--output {output} is one file, but there are {len(files)} images.")
    else:
        pictures = [output]
    check_folder(pictures[0].parent, "--output")
    sources = {x.resolve() for x in files}
    for i, picture in enumerate(pictures):
        if picture.resolve() in sources:
            raise ConfigError(f"{picture} is an input and would be overwritten; change --output.")
        if picture in pictures[:i]:
            raise ConfigError(f"Two inputs are called {picture.name}; give one --output for each.")
    return pictures


def _picture_name(file: Path) -> str:
    return file.name if file.suffix.lower() in WRITTEN_SUFFIXES else f"{file.name}.png"


def check_folder(folder: Path, flag: str) -> None:
    """Make the folder that is to be written to.

    Raises:
        ConfigError: it, or one that it is in, is a file or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{flag}: {folder} is a file; name a folder.") from error
    except OSError as error:
        raise ConfigError(f"{flag}: {folder} cannot be made ({error.strerror}).") from error


def check_json(path: Path) -> None:
    """
    Raises:
        ConfigError: it cannot be a JSON file.
    """
    if path.suffix.lower() != ".json" or path.is_dir():
        raise ConfigError(f"--json {path} is not the name of a .json file.")
    check_folder(path.parent, "--json")


def check_video(path: Path) -> None:
    """
    Raises:
        ConfigError: it cannot be a video that OpenCV writes.
    """
    if path.suffix.lower() not in (".mp4", ".avi", ".mkv") or path.is_dir():
        raise ConfigError(f"--output {path} is not the name of an .mp4, .avi or .mkv file.")
    check_folder(path.parent, "--output")


def _listed(suffixes: Sequence[str]) -> str:
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
