"""The page: sections of text, figures and tables, written as one HTML file."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined


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
    """Cells as text; the first one of each row is its name.

    Attributes:
        is_text: for each column whether it holds words and not numbers.
    """

    header: list[str]
    rows: list[list[str]]
    caption: str
    is_text: list[bool]
    kind: str = "table"


@dataclass(frozen=True)
class Section:
    """
    Attributes:
        key: the anchor of the section in the page.
        text: paragraphs.
        missing: why there is nothing to see, or "".
    """

    key: str
    title: str
    text: list[str]
    blocks: list[Figure | Gallery | Table] = field(default_factory=list)
    missing: str = ""


@dataclass(frozen=True)
class Headline:
    """One of the figures at the top of the page."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """
    Attributes:
        facts: what was measured with what, as pairs of a name and a text.
    """

    title: str
    subtitle: str
    headlines: list[Headline]
    facts: list[tuple[str, str]]
    sections: list[Section]


def number(value: float, digits: int = 1) -> str:
    """A figure as text; a dash where it is not known."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def make_table(
    frame: pd.DataFrame, caption: str, *, name: str = "", digits: Mapping[str, int] | int = 1
) -> Table:
    """A table of ``frame``, its index as the first column.

    Args:
        name: heading of the first column.
        digits: behind the point, for all columns or for each of them by name (1 by default).
    """
    of_column = [
        digits if isinstance(digits, int) else digits.get(column, 1) for column in frame.columns
    ]
    rows = [
        [str(key), *(_cell(x, d) for x, d in zip(row, of_column, strict=True))]
        for key, row in zip(frame.index, frame.itertuples(index=False), strict=True)
    ]
    is_text = [True, *(frame[column].map(type).eq(str).any() for column in frame.columns)]
    return Table([name, *map(str, frame.columns)], rows, caption, is_text)


def _cell(value: Any, digits: int) -> str:
    return value if isinstance(value, str) else number(float(value), digits)


def render(page: Page) -> str:
    """The page as HTML; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("scopenet.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Write the file whole or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(render(page), encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
