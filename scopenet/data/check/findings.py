"""What can be found, and the table of it."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

# Kinds that training copes with as they are, and that may be meant: what remains is an error.
NOTES = {
    "wrong suffix",
    "EXIF rotation",
    "CMYK image",
    "greyscale image",
    "image with alpha",
    "image without boxes",
    "category never used",
    "box partly outside of the image",
}


class Finding(NamedTuple):
    """One thing that was found.

    ``file`` is the json or an image, ``id`` that of the entry of ``part`` ("images", "annotations"
    or "categories") it concerns, None where there is none.
    """

    kind: str
    file: str
    part: str
    id: Any
    detail: str = ""

    @property
    def severity(self) -> str:
        """Say "error" where training would leave something out or misread it, else "note"."""
        return "note" if self.kind in NOTES else "error"


def summary(findings: Sequence[Finding]) -> str:
    """Count how often each kind was found, in a table with an example each, errors first."""
    counts = Counter(x.kind for x in findings)
    first = {x.kind: x for x in reversed(findings)}.values()
    rows = [
        [x.severity, x.kind, counts[x.kind], f"{Path(x.file).name}{_place(x)}", x.detail]
        for x in sorted(first, key=lambda x: (x.severity, x.kind))
    ]
    return tabulate(rows, ["", "what", "how often", "for example", ""], "github")


def _place(finding: Finding) -> str:
    return "" if finding.id is None else f" ({finding.part} {finding.id})"


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write a table of all findings, one a line."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as f:
        writer = csv.writer(f)
        writer.writerow(["severity", *Finding._fields])
        writer.writerows([x.severity, *x] for x in findings)
