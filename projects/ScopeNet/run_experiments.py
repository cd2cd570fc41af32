"""Train and evaluate configs on a data set over several seeds, and print the table of results."""

import argparse
import sys
from pathlib import Path

from scopenet.config_file import ConfigError
from scopenet.experiments.harness import run_jobs
from scopenet.experiments.jobs import Job
from scopenet.experiments.results import Results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", help="files, folders, or names of Detectron2's zoo")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--schedule", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=Path("output/experiments"))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--num-gpus", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    names = []
    for name in args.configs:
        folder = Path(name)
        names += sorted(map(str, folder.glob("*.yaml"))) if folder.is_dir() else [name]
    jobs = [Job(n, args.preset, seed, args.schedule) for seed in args.seeds for n in names]
    results = Results(args.results or args.output / "results.csv")
    try:
        errors = run_jobs(jobs, args.output, results, num_gpus=args.num_gpus)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    if errors:
        sys.exit(1)


if __name__ == "__main__":
    main()
