"""The subcommand ``scopenet publish``."""

import argparse
import sys
from pathlib import Path

from .card import RECORDED
from .publishing import publish


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Publish a trained model, see docs/model_zoo.md.")
    parser.add_argument("checkpoint", type=Path, help="a .pth file that scopenet train has written")
    parser.add_argument("--config-file", required=True, help="that the training was started with")
    parser.add_argument("--output", type=Path, required=True, help="folder of the zoo")
    parser.add_argument("--metrics", type=Path, help="an evaluation, by default the training's own")
    for name in RECORDED:
        parser.add_argument(f"--{name}", help="of the training, for the model's card")
    return parser


def run(args: argparse.Namespace) -> None:
    given = {x: getattr(args, x) for x in RECORDED if getattr(args, x)}
    entry = publish(args.checkpoint, args.config_file, args.output, args.metrics, given)
    print(f"{args.checkpoint}: {args.checkpoint.stat().st_size:,} bytes")
    name = f"{entry.weights}.pkl"
    print(f"{args.output / entry.folder / name}: {entry.files[name].bytes:,} bytes")
    if not entry.metrics:
        print("No evaluation of these weights is known; --metrics gives one.", file=sys.stderr)
