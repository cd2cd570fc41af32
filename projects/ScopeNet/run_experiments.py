"""Train and evaluate configs on a data set over several seeds, and print the table of results.

What is done is skipped, and an interrupted run goes on where it stopped: give the same command
again. Several of these processes may share the work.
"""

import argparse
from pathlib import Path

from scopenet.errors import ConfigError, brought_by, one_sentence_errors

with one_sentence_errors(), brought_by("experiments"):
    from experiments.harness import run_jobs
    from experiments.job import Job, list_configs
    from experiments.report import in_paper_order, results_table
    from experiments.results import Results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs",
        nargs="+",
        help="config files, folders of them, or names of Detectron2's zoo; the first one is the "
        "baseline of the table",
    )
    parser.add_argument(
        "--preset", required=True, help="of configs/presets, such as Digits, or a YAML file"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED")
    parser.add_argument("--schedule", type=float, default=1.0, help="factor on the iterations")
    parser.add_argument("--base-lr", type=float, help="learning rate, by default the preset's")
    parser.add_argument("--warmup", type=int, help="its iterations, by default the preset's")
    parser.add_argument(
        "--overrides", nargs="+", default=[], metavar=("KEY", "VALUE"), help="of all configs"
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="of each run")
    parser.add_argument("--output", type=Path, default=Path("output/experiments"))
    parser.add_argument("--results", type=Path, help="by default OUTPUT/results.csv")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    results = Results(args.results or args.output / "results.csv")
    configs = list_configs(args.configs)
    options = args.schedule, args.base_lr, args.warmup, tuple(args.overrides)
    jobs = [Job(c, args.preset, seed, *options) for seed in args.seeds for c in configs]
    errors = run_jobs(jobs, args.output, results, num_gpus=args.num_gpus)
    table = results.read()
    rows = table[table["dataset"] == jobs[0].dataset]
    print(results_table(rows, in_paper_order(job.name for job in jobs)))
    if errors:
        raise ConfigError(f"{len(errors)} runs failed; the same command tries them again.")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
