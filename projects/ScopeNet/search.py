"""Search for good values of config keys on the validation set, with Optuna.

    python projects/ScopeNet/search.py configs/paper/table1/guided_score.yaml --preset Digits \\
        --key SOLVER.BASE_LR=float:0.005:0.1:log --trials 12 --eval-period 200

An interrupted search goes on where it stopped: give the same command again. Several of these
processes may share the work.
"""

import argparse
from pathlib import Path

from scopenet.errors import brought_by, one_sentence_errors

with one_sentence_errors(), brought_by("experiments"):
    from experiments.job import Job
    from experiments.search import Key, search, trials_table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a config file, or a name of Detectron2's zoo")
    parser.add_argument(
        "--preset", required=True, help="of configs/presets, such as Digits, or a YAML file"
    )
    parser.add_argument(
        "--key",
        action="append",
        required=True,
        help="what to search, may be given several times: KEY=float:LOW:HIGH, "
        "with :log behind it for a logarithmic scale, or KEY=choice:A:B",
    )
    parser.add_argument("--trials", type=int, required=True, help="complete or given up, in all")
    parser.add_argument(
        "--eval-period", type=int, required=True, help="iterations between validations"
    )
    parser.add_argument("--schedule", type=float, default=1.0, help="factor on the iterations")
    parser.add_argument("--seed", type=int, default=0, help="of all trainings")
    parser.add_argument("--num-gpus", type=int, default=1, help="of each run")
    parser.add_argument("--output", type=Path, default=Path("output/search"))
    parser.add_argument("--storage", type=Path, help="SQLite, by default OUTPUT/search.db")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    study = search(
        Job(args.config, args.preset, args.seed, args.schedule, eval_period=args.eval_period),
        [Key.parse(text) for text in args.key],
        trials=args.trials,
        storage=args.storage or args.output / "search.db",
        output=args.output,
        num_gpus=args.num_gpus,
    )
    print(trials_table(study))
    best = " ".join(f"{k} {v}" for k, v in study.best_params.items())
    print(f"The best: {best}")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
