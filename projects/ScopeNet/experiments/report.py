"""The paper's tables in Markdown: its figures beside those of a results file."""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from scopenet.config_file import config_dir

from .results import METRICS
from .statistics import Estimate, estimate, seeds_to_settle

TABLES = range(1, 7)  # of the paper
SCOPENET, DIRECT_REGRESSION = "paper/table1/guided_score", "paper/table1/direct_regression"
BEYOND = "beyond/expectation"
SHOWN = (*METRICS, "AP90", "oLRP")  # of every row that has them


class Row(NamedTuple):
    """A line of a table: a config and its schedule."""

    config: str
    iterations: int
    base_lr: float
    warmup: int


def paper_figures() -> pd.DataFrame:
    """Read what the paper reports: one row per row of its tables, in its order."""
    return pd.read_csv(config_dir() / "paper" / "figures.csv", dtype={"config": str})


def rows_of(results: pd.DataFrame, configs: Sequence[str]) -> list[Row]:
    """List the rows that ``results`` have of ``configs``, in the order of these."""
    values = results[list(Row._fields)].drop_duplicates().sort_values(list(Row._fields[1:]))
    found = [Row(*x) for x in values.itertuples(index=False)]
    return [row for config in configs for row in found if row.config == config]


def row_name(row: Row, rows: Sequence[Row], usual: Container[int]) -> str:
    """Name a row by what tells it from others: its config, iterations that are not the ``usual``
    ones, and learning rate and warm-up where ``rows`` have several of them for the config."""
    name = row.config.removeprefix("paper/")
    if row.iterations not in usual:
        name += f", {row.iterations} iterations"
    if len({x[2:] for x in rows if x.config == row.config}) > 1:
        name += f", rate {row.base_lr:g}, warm-up {row.warmup}"
    return name


def by_seed(results: pd.DataFrame, row: Row, metric: str) -> pd.Series:
    """Return the values of a row, indexed by seed."""
    chosen = results[(results[list(row._fields)] == pd.Series(row._asdict())).all(axis=1)]
    return chosen.set_index("seed")[metric].sort_index()


def difference(results: pd.DataFrame, row: Row, baseline: Row, metric: str) -> pd.Series:
    """Subtract the baseline from a row, for every seed that both have."""
    return (by_seed(results, row, metric) - by_seed(results, baseline, metric)).dropna()


def show(value: Estimate, signed: bool = False) -> str:
    if value.count == 0:
        return ""
    text = f"{value.mean:{'+' if signed else ''}.1f}"
    return text if value.count == 1 else f"{text} ± {value.half_width:.1f}"


def settled(differences: pd.Series) -> str:
    """Say what it would take to tell the sign of a difference."""
    if len(differences) < 2:
        return "needs more seeds"
    if estimate(differences).excludes_zero:
        return "yes"
    needed = seeds_to_settle(differences)
    return f"no: {needed} seeds would" if needed else "no: over 1000 seeds would"


def values_cells(results: pd.DataFrame, row: Row) -> dict[str, str]:
    """Show the number of seeds, and the mean of every metric that the row has."""
    values = {metric: by_seed(results, row, metric) for metric in SHOWN}
    cells = {m: show(estimate(v.dropna())) for m, v in values.items() if v.notna().any()}
    return {"seeds": str(len(values["AP"]))} | cells


def difference_cells(results: pd.DataFrame, row: Row, baseline: Row) -> dict[str, str]:
    """Show the differences in AP and AP75 to ``baseline``; nothing for itself."""
    cells = {}
    for metric in ("AP", "AP75") if row != baseline else ():
        differences = difference(results, row, baseline, metric)
        cells[f"Δ {metric}"] = show(estimate(differences), signed=True)
        cells[f"{metric} settled"] = settled(differences)
    return cells


def results_table(results: pd.DataFrame, configs: Sequence[str]) -> str:
    """Make a Markdown table of one data set's results, compared with its first row.

    Each figure is the mean over seeds with its 95 % interval; differences are taken seed by seed.
    Where the first row is a config of the paper, the paper's figures stand beside all that are.

    Args:
        results: rows of one data set, see :data:`~experiments.results.COLUMNS`.
        configs: which ones, in this order.
    """
    rows = rows_of(results, configs)
    figures = paper_figures().dropna(subset=["config"]).set_index("config")
    usual = set(results["iterations"].mode())
    lines = []
    for row in rows:
        name = row.config.removeprefix("paper/")
        line = {"config": row_name(row, rows, usual)}
        is_paper = rows[0].config.startswith("paper/")
        if is_paper and name in figures.index and row.iterations in usual:
            reported = figures.loc[name, ["AP", "AP75"]].dropna()  # table 4 has AP only
            line["paper: AP / AP75"] = " / ".join(map(str, reported))
        line |= values_cells(results, row) | difference_cells(results, row, rows[0])
        lines.append(line)
    return pd.DataFrame(lines).fillna("").to_markdown(index=False, disable_numparse=True)


def table_configs(number: int) -> list[str]:
    """List the configs of a table of the paper, in its order, as results files name them."""
    figures = paper_figures()
    names = figures[figures["table"] == number]["config"].dropna()
    return [f"paper/{name}" for name in names]


def in_paper_order(configs: Iterable[str]) -> list[str]:
    """Sort configs, each once: by the paper's tables, then the others as they come."""
    paper = [config for number in TABLES for config in table_configs(number)]
    given = list(dict.fromkeys(configs))
    return sorted(given, key=lambda c: paper.index(c) if c in paper else len(paper))


def write_tables(results: pd.DataFrame, path: Path) -> None:
    """Write the paper's tables and one of all other configs, per data set, as Markdown."""
    parts = []
    for dataset, chosen in results.groupby("dataset"):
        done = set(chosen["config"])
        for number in TABLES:
            configs = [config for config in table_configs(number) if config in done]
            if len(configs) > 1:
                parts.append(f"## {dataset}: table {number}\n\n{results_table(chosen, configs)}\n")
        ours = [x for x in (BEYOND, SCOPENET, DIRECT_REGRESSION) if x in done]
        others = sorted(x for x in done if not x.startswith("paper/") and x not in ours)
        if others:
            table = results_table(chosen, [*ours, *others])
            parts.append(f"## {dataset}: ScopeNet and others\n\n{table}\n")
    path.write_text("\n".join(parts))
