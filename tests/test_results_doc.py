"""docs/results.md shows the tables that its CSV file gives."""

from pathlib import Path

import pytest

from experiments.report import write_tables
from experiments.results import Results

DOCS = Path(__file__).parents[1] / "docs"


def tables(text: str) -> list[str]:
    """The Markdown tables of a document."""
    blocks = text.split("\n\n")
    return [block.strip() for block in blocks if block.lstrip().startswith("|")]


def test_tables_are_those_of_the_runs(tmp_path):
    results = Results(DOCS / "results" / "runs.csv").read()
    write_tables(results, tmp_path / "tables.md")
    expected = tables((tmp_path / "tables.md").read_text())
    shown = tables((DOCS / "results.md").read_text())
    assert len(expected) >= 3
    for table in expected:
        assert table in shown, table.splitlines()[2]


@pytest.mark.parametrize("dataset", ["Digits", "Trees"])
def test_figures_are_shown(dataset):
    name = f"results/runs_{dataset}.png"
    assert (DOCS / name).is_file() and f"({name})" in (DOCS / "results.md").read_text()
