"""Write the tables and figures of a results file of run_experiments.py."""

import argparse
from pathlib import Path

from scopenet.errors import ConfigError, brought_by, one_sentence_errors

with one_sentence_errors(), brought_by("experiments"):
    from experiments.plots import draw_results
    from experiments.report import BEYOND, in_paper_order, write_tables
    from experiments.results import Results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a CSV file")
    parser.add_argument("--output", type=Path, help="a folder; by default that of the CSV file")
    args = parser.parse_args()
    output = args.output or args.results.parent
    if not args.results.is_file():
        raise ConfigError(f"{args.results} does not exist; run_experiments.py writes such files.")
    results = Results(args.results).read()
    output.mkdir(parents=True, exist_ok=True)
    write_tables(results, output / f"{args.results.stem}.md")
    for dataset, chosen in results.groupby("dataset"):
        path = output / f"{args.results.stem}_{dataset}.png"
        configs = in_paper_order(sorted(chosen["config"]))
        configs.sort(key=lambda config: config != BEYOND)  # first, where it is there
        draw_results(chosen, configs, title=dataset).savefig(path, dpi=150)
        print(path)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
