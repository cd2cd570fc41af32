"""The docs show the tables that their measurements give."""

from pathlib import Path

import pytest

from benchmark.report import tables
from benchmark.results import Results

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    "page, measurements, count, left_out",
    [
        ("performance.md", "benchmark.json", 11, ()),
        ("deployment.md", "deployment.json", 1, ("Networks",)),
        ("backbones.md", "light.json", 1, ("Networks",)),
        ("backbones_builtin.md", "backbones.json", 2, ()),
    ],
)
def test_tables_are_those_of_the_measurements(page, measurements, count, left_out):
    shown = (DOCS / page).read_text()
    found = dict(tables(Results.load(DOCS / "performance" / measurements)))
    found = {k: table for k, table in found.items() if not table.empty and k not in left_out}
    assert len(found) == count
    for title, table in found.items():
        assert table.to_markdown(index=False, disable_numparse=True) in shown, title


@pytest.mark.parametrize("name", ["boxes", "areas"])
def test_plots_are_shown(name):
    assert (DOCS / "performance" / f"{name}.png").is_file()
    assert f"(performance/{name}.png)" in (DOCS / "performance.md").read_text()
