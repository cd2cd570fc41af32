"""The page: sections of text, figures and tables, written as one HTML file."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..atomic import write_text


@dataclass(frozen=True)
class Figure:
    """A picture. The caption says what it shows, what was measured and on how many samples."""

    uri: str
    caption: str
    alt: str
    kind: str = "figure"


@dataclass(frozen=True)
class Gallery:
    """Pictures beside each other under one caption."""

    pictures: list[Figure]
    caption: str
    kind: str = "gallery"


@dataclass(frozen=True)
class Table:
    """Cells as text; the first one of each row is its name."""

    header: list[str]
    rows: list[list[str]]
    caption: str
    is_text: list[bool]  # by column, whether it holds words and not numbers
    kind: str = "table"


@dataclass(frozen=True)
class Headline:
    """One of the figures at the top of the page."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """The answer to one question."""

    key: str  # its anchor in the page
    title: str
    text: list[str] = field(default_factory=list)  # paragraphs
    blocks: list[Figure | Gallery | Table] = field(default_factory=list)
    missing: str = ""  # why there is nothing to see
    headlines: list[Headline] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """All of it; the facts are what was measured with what, as pairs of a name and a text."""

    title: str
    subtitle: str
    headlines: list[Headline]
    facts: list[tuple[str, str]]
    sections: list[Section]


def number(value: float, digits: int = 1) -> str:
    """Write a figure; a dash where it is not known."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def make_table(
    frame: pd.DataFrame, caption: str, *, name: str = "", digits: dict[str, int] | None = None
) -> Table:
    """Write ``frame`` as a table, its index as the first column.

    Args:
        name: heading of the first column.
        digits: behind the point, by column; 1 by default.
    """
    of_column = [(digits or {}).get(column, 1) for column in frame]
    rows = [
        [str(key), *(_cell(x, d) for x, d in zip(row, of_column, strict=True))]
        for key, *row in frame.itertuples()
    ]
    is_text = [True, *(frame[column].map(type).eq(str).any() for column in frame.columns)]
    return Table([name, *map(str, frame.columns)], rows, caption, is_text)


def _cell(value: Any, digits: int) -> str:
    return value if isinstance(value, str) else number(float(value), digits)


def render(page: Page) -> str:
    """Write the page as HTML; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("scopenet.analysis", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Write the file whole or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(page))
