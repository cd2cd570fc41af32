"""docs/results.md shows the tables that its CSV file gives."""

from pathlib import Path

import pytest

from experiments.report import write_tables
from experiments.results import Results

DOCS = Path(__file__).parents[1] / "docs"
PHOTOGRAPHS = ("Cards-one", "Cells-one", "Trees", "Cards", "Cells")


def tables(text: str) -> list[str]:
    """The Markdown tables of a document."""
    blocks = text.split("\n\n")
    return [block.strip() for block in blocks if block.lstrip().startswith("|")]


@pytest.mark.parametrize("name, least", [("runs", 3), ("photographs", 5)])
def test_tables_are_those_of_the_runs(name, least, tmp_path):
    results = Results(DOCS / "results" / f"{name}.csv").read()
    write_tables(results, tmp_path / "tables.md")
    expected = tables((tmp_path / "tables.md").read_text())
    shown = tables((DOCS / "results.md").read_text())
    assert len(expected) >= least
    for table in expected:
        assert table in shown, table.splitlines()[2]


def test_every_rate_is_that_of_its_run():
    rates = Results(DOCS / "results" / "rates.csv").read().sort_values(["base_lr"])
    (shown,) = (x for x in tables((DOCS / "results.md").read_text()) if "by rate" in x)
    rows = [line.replace("*", "").split(" | ") for line in shown.splitlines()[2:]]
    found = sorted(" | ".join(x[1:]).removesuffix(" |") for x in rows)
    expected = sorted(
        " | ".join(f"{x.AP:.1f} / {x.AP75:.1f}" for x in runs.itertuples())
        for _, runs in rates.groupby("config")
    )
    assert found == expected and len(found) == 6


@pytest.mark.parametrize("name", ["runs_Digits", *(f"photographs_{x}" for x in PHOTOGRAPHS)])
def test_figures_are_shown(name):
    name = f"results/{name}.png"
    assert (DOCS / name).is_file() and f"({name})" in (DOCS / "results.md").read_text()
