"""The page: sections of text, figures and tables, written as one HTML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..atomic import write_text


@dataclass(frozen=True)
class Figure:
    """A picture. The caption says what it shows, what was measured and on how many samples."""

    uri: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Gallery:
    """Pictures beside each other under one caption."""

    pictures: list[Figure]
    caption: str


@dataclass(frozen=True)
class Table:
    """Figures and words, under the names of their columns and beside the frame's index."""

    frame: pd.DataFrame
    caption: str
    name: str = ""  # heading of the index
    digits: Mapping[str, int] = field(default_factory=dict)  # behind the point, by default 1

    @property
    def header(self) -> list[str]:
        return [self.name, *self.frame]

    @property
    def rows(self) -> list[list[str]]:
        """The cells as text, the index first; counts have no point."""
        columns = [
            [x if isinstance(x, str) else number(x, self.digits.get(name, 1)) for x in column]
            for name, column in self.frame.items()
        ]
        return [list(row) for row in zip(map(str, self.frame.index), *columns, strict=True)]

    @property
    def is_text(self) -> list[bool]:
        """Whether a column holds words and not figures."""
        return [True, *self.frame.map(type).eq(str).any()]


Block: TypeAlias = Figure | Gallery | Table


@dataclass(frozen=True)
class Section:
    """The answer to one question."""

    key: str  # its anchor in the page
    title: str
    text: list[str] = field(default_factory=list)  # paragraphs
    blocks: list[Block] = field(default_factory=list)
    missing: str = ""  # why there is nothing to see
    headlines: list[tuple[str, str, str]] = field(default_factory=list)  # figure, what it is, note
    verdict: list[str] = field(default_factory=list)  # sentences that the page begins with


@dataclass(frozen=True)
class Page:
    """All of it; the facts are what was measured with what, as pairs of a name and a text."""

    title: str
    subtitle: str
    facts: list[tuple[str, str]]
    sections: list[Section]


def number(value: float, digits: int = 1) -> str:
    """Write a figure; a dash where it is not known, and a count as it is."""
    if isinstance(value, int):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def render(page: Page) -> str:
    """Write the page as HTML; all text is escaped."""
    options: dict[str, Any] = {"autoescape": True, "undefined": StrictUndefined}
    options |= {"trim_blocks": True, "lstrip_blocks": True}  # no empty line for Jinja's own
    environment = Environment(loader=PackageLoader("scopenet.analysis", ""), **options)
    return environment.get_template("page.html").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Write the file whole or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(page))
