"""What can be found, and the table of it."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate


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


def is_error(finding: Finding) -> bool:
    """Whether training would leave something out or misread it."""
    return finding.kind not in NOTES


def summary(findings: Iterable[Finding]) -> str:
    """How often each kind was found, errors first, as a table with an example each."""
    findings = sorted(findings, key=lambda x: (not is_error(x), x.kind))
    counts = Counter(x.kind for x in findings)
    examples = {x.kind: x for x in reversed(findings)}
    rows = [
        [
            "error" if is_error(examples[kind]) else "note",
            kind,
            number,
            f"{Path(examples[kind].file).name} {_place(examples[kind])}".strip(),
            examples[kind].detail,
        ]
        for kind, number in counts.items()
    ]
    return tabulate(rows, ["", "what", "how often", "for example", ""], "github")


def _place(finding: Finding) -> str:
    return "" if finding.id is None else f"({finding.part} {finding.id})"


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """All findings, one a line."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as f:
        writer = csv.writer(f)
        writer.writerow(["severity", *Finding._fields])
        for finding in findings:
            writer.writerow(["error" if is_error(finding) else "note", *finding])
