"""Make a data set of Pascal VOC files on GitHub, for `prepare_cards.py` and `prepare_cells.py`.

The files are those of one commit. Each is compared with the sha256 that this project keeps of it
(`manifests/`) before anything is written; images are stored as they are.
"""

import argparse
import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pascal_voc import read_objects
from scopenet.data.builtin import (
    CLASS_NAMES,
    ONE_CLASS,
    CocoSplit,
    ImageFile,
    Sample,
    dataset_root,
)
from scopenet.errors import ConfigError, one_sentence_errors

Files = Mapping[str, bytes]
"""Path in the repository, with slashes -> content."""

Pairs = Iterable[tuple[str, str]]
"""The paths of an image and of its annotation."""


@dataclass(frozen=True)
class Source:
    """Says where a data set comes from, and how it is split."""

    dataset: str  # of CLASS_NAMES
    repository: str  # owner/name on GitHub
    commit: str
    info: dict[str, Any]  # of the json
    license: dict[str, Any]  # COCO's fields
    pairs: Callable[[Files, str], Pairs]  # the images of a split, "train" or "val"

    @property
    def url(self) -> str:
        return f"https://codeload.github.com/{self.repository}/zip/{self.commit}"

    @property
    def manifest(self) -> Path:
        """The file of the checksums, as the program sha256sum writes it."""
        return Path(__file__).parent / "manifests" / f"{self.dataset}.sha256"


def prepare(
    source: Source, root: Path | None = None, *, folder: Path | None = None
) -> dict[str, int]:
    """Write `<root>/<dataset>` in COCO format, except splits that are already there.

    Args:
        root: the directory of all data sets, by default `dataset_root()`.
        folder: the files of the repository, if they are at hand; they are downloaded otherwise.

    Returns:
        how many boxes without area were left out, by the names of the splits that were written.

    Raises:
        ConfigError: the files could not be had, or one is another than the expected one.
    """
    splits = [_describe(source, (root or dataset_root()) / source.dataset, x) for x in _SPLITS]
    missing = [split for split in splits if not split.is_complete()]
    left_out = {}
    files = read_files(source, folder) if missing else {}
    for split in missing:
        pairs = list(source.pairs(files, split.name))
        samples, left_out[split.name] = read_samples(files, pairs, split.class_names)
        split.write(samples, total=len(samples))
    return left_out


def read_files(source: Source, folder: Path | None = None) -> Files:
    """Read the files of the manifest, from a folder or from GitHub, and compare their checksums.

    Raises:
        ConfigError: see :func:`prepare`.
    """
    expected = read_manifest(source.manifest)
    if folder:
        files = {path: _read(folder / path, source) for path in expected}
    else:
        files = download(source, list(expected))
    for path, digest in expected.items():
        if path not in files or hashlib.sha256(files[path]).hexdigest() != digest:
            raise ConfigError(
                f"{path} of {folder or source.url} is not the file of {source.repository} at "
                f"commit {source.commit[:7]}: it is missing there, or its sha256 is another."
            )
    return files


def read_manifest(path: Path) -> dict[str, str]:
    """Read path -> sha256 from a file that sha256sum has written."""
    pairs = (line.split(maxsplit=1) for line in path.read_text().splitlines())
    return {name: digest for digest, name in pairs}


def download(source: Source, paths: Sequence[str]) -> Files:
    """Download the archive of the commit, and return those of ``paths`` that it holds,
    in their order.

    Raises:
        ConfigError: it could not be fetched, or is no zip file.
    """
    print(f"Fetching {source.url} ...", flush=True)
    try:
        with urllib.request.urlopen(source.url, timeout=60) as response:
            archive = zipfile.ZipFile(io.BytesIO(response.read()))
    except (OSError, zipfile.BadZipFile) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConfigError(
            f"{source.url} could not be fetched: {reason}; unpack it elsewhere and name the folder "
            "with --source."
        ) from error
    with archive:
        # GitHub puts everything into one folder, "<name>-<commit>".
        inner = {name.partition("/")[2]: name for name in archive.namelist()}
        return {path: archive.read(inner[path]) for path in paths if path in inner}


def _read(path: Path, source: Source) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}; --source names the files of "
            f"{source.repository} at commit {source.commit[:7]}."
        ) from error


def read_samples(
    files: Files, pairs: Pairs, class_names: tuple[str, ...]
) -> tuple[list[Sample], int]:
    """Read the images and boxes of ``pairs``, and count the boxes without area, which are left
    out."""
    samples, left_out = [], 0
    for image, annotation in pairs:
        names, corners = read_objects(files[annotation])
        boxes = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners.tolist()]
        kept = [i for i, (_, _, width, height) in enumerate(boxes) if width > 0 and height > 0]
        left_out += len(boxes) - len(kept)
        labels = [class_names.index(names[i]) for i in kept]
        file = ImageFile(PurePosixPath(image).name, files[image])
        samples.append(Sample(file, [boxes[i] for i in kept], labels))
    return samples, left_out


_SPLITS = ("train", "val")


def _describe(source: Source, folder: Path, split: str) -> CocoSplit:
    origin = f"https://github.com/{source.repository}, commit {source.commit}"
    info = source.info | {"parameters": {"split": split}, "sources": [origin]}
    names, one = CLASS_NAMES[source.dataset], ONE_CLASS[source.dataset]
    return CocoSplit(folder, split, names, info, [{"id": 1} | source.license], one)


def main(source: Source, about: str) -> None:
    """Run a script that prepares ``source``; ``about`` is the text of its help."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--source", type=Path, help="a folder with the files of the repository, if it is at hand"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=dataset_root(),
        help=f"where the folder `{source.dataset}` is made",
    )
    args = parser.parse_args()
    with one_sentence_errors():
        left_out = prepare(source, args.output, folder=args.source)
    state = "complete, nothing to do"
    if left_out:
        state = f"wrote {' and '.join(left_out)}, without {sum(left_out.values())} empty boxes"
    print(f"{args.output / source.dataset}: {state}")
