"""Counts of faults that were tried, survived, and what they cost."""

from collections.abc import Iterator
from contextlib import contextmanager


class Row:
    """
    Attributes:
        again: for each time a training went on, the iterations that had to be computed again.
        lost: everything else: checkpoints that had been written, iterations that never were run.
    """

    def __init__(self):
        self.tried = self.survived = self.lost = 0
        self.again: list[int] = []


class FilesRow:
    """What became of hostile files of one kind."""

    def __init__(self):
        self.refused = self.loaded = self.failed = 0

    @property
    def files(self) -> int:
        return self.refused + self.loaded + self.failed

    def count(self, outcome: str) -> None:
        """One more file; the outcomes are those of :mod:`hostile.child`."""
        setattr(self, outcome, getattr(self, outcome) + 1)


ROWS: dict[str, Row] = {}  # by the name of the fault
FILES_ROWS: dict[str, FilesRow] = {}  # by the kind of file
PERIOD = 4  # iterations between the checkpoints of the suite's trainings


@contextmanager
def counted(fault: str, times: int = 1) -> Iterator[Row]:
    """Counts ``times`` more faults of this name as tried, and as survived if nothing fails.

    Raises:
        AssertionError: more was lost than the iterations since the last checkpoint.
    """
    row = ROWS.setdefault(fault, Row())
    row.tried += times
    yield row
    assert row.lost == 0
    assert all(0 <= x <= PERIOD for x in row.again), row.again
    row.survived += times


def table() -> list[str]:
    """As in docs/reliability.md."""
    lines = ["| Fault | Tried | Survived | Iterations repeated | Lost |", "|---|---|---|---|---|"]
    for fault, row in ROWS.items():
        again = f"{sum(row.again)}, at most {max(row.again)} at a time" if any(row.again) else "0"
        lines.append(f"| {fault} | {row.tried} | {row.survived} | {again} | {row.lost} |")
    return lines


def table_of_files() -> list[str]:
    """As in docs/reliability.md."""
    lines = [
        "| Kind | Files | Refused with a sentence | Loaded | Failures |",
        "|---|---|---|---|---|",
    ]
    for kind, row in FILES_ROWS.items():
        lines.append(f"| {kind} | {row.files} | {row.refused} | {row.loaded} | {row.failed} |")
    return lines
