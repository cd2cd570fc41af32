"""docs/performance.md shows the tables that its measurements give."""

from pathlib import Path

import pytest

from scopenet.benchmark.report import tables
from scopenet.benchmark.results import Results

DOCS = Path(__file__).parents[1] / "docs"


def test_tables_are_those_of_the_measurements():
    shown = (DOCS / "performance.md").read_text()
    found = dict(tables(Results.load(DOCS / "performance" / "benchmark.json")))
    assert all(not table.empty for table in found.values())
    for title, table in found.items():
        assert table.to_markdown(index=False, disable_numparse=True) in shown, title


@pytest.mark.parametrize("name", ["boxes", "areas"])
def test_plots_are_shown(name):
    assert (DOCS / "performance" / f"{name}.png").is_file()
    assert f"(performance/{name}.png)" in (DOCS / "performance.md").read_text()
