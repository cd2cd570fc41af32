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


ROWS: dict[str, Row] = {}  # by the name of the fault
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
