"""One hostile file, and what a kind of files has to offer."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass
class Case:
    """
    Attributes:
        what: names the mutation.
        content: of the file.
        suffix: of its name.
        beside: contents of other files in its folder, by name.
        expected: what :meth:`Kind.check` compares with, for instance the names of the parts that
            are as in the sound file.
    """

    what: str
    content: bytes
    suffix: str = ""
    beside: dict[str, bytes] = field(default_factory=dict)
    expected: Any = None


class Kind(Protocol):
    """Files of one format; made in the child before the watch begins.

    Attributes:
        suffix: of its files.
        packages: that may be imported while a file is read, besides what is imported already.
        reads: folders from which files may be read besides the file's own and Python's.
        sound_file: one that can be read.
    """

    suffix: str
    packages: frozenset[str]
    reads: tuple[str, ...]
    sound_file: Path

    def make(self, rng: random.Random) -> Case:
        """A mutation of a sound file; a function of the state of ``rng``."""
        ...

    def load(self, path: Path) -> Any:
        """What the project makes of the file; a ConfigError if it refuses it."""
        ...

    def check(self, case: Case, path: Path, value: Any) -> None:
        """Raise an AssertionError if ``value`` is not what the bytes of the file say."""
        ...


def choose(rng: random.Random, mutations: dict[Any, int]) -> Any:
    """One of the keys, by their weights."""
    return rng.choices([*mutations], [*mutations.values()])[0]
