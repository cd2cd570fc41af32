"""What ``publish_model.py`` does."""

import argparse
import sys
from pathlib import Path

from ..errors import ConfigError
from .facts import RECORDED
from .publishing import publish


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Publish a trained model, see docs/model_zoo.md.")
    parser.add_argument("checkpoint", type=Path, help="a .pth file that train_net.py has written")
    parser.add_argument("--config-file", required=True, help="that the training was started with")
    parser.add_argument("--output", type=Path, required=True, help="folder of the zoo")
    parser.add_argument("--metrics", type=Path, help="an evaluation, by default the training's own")
    for name in RECORDED:
        parser.add_argument(f"--{name}", help="of the training, for the model's card")
    return parser


def run() -> None:
    """The program; what is wrong with its input ends it with one sentence."""
    args = parser().parse_args()
    given = {x: getattr(args, x) for x in RECORDED if getattr(args, x)}
    try:
        entry = publish(
            args.checkpoint,
            args.config_file,
            args.output,
            metrics_file=args.metrics,
            recorded=given,
        )
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {args.output} cannot be written ({error.strerror}).")
    size = entry.files[f"{entry.weights}.pkl"].bytes
    print(f"{args.checkpoint}: {args.checkpoint.stat().st_size:,} bytes")
    print(f"{args.output / entry.folder / entry.weights}.pkl: {size:,} bytes")
    if not entry.metrics:
        print("No evaluation of these weights is known; --metrics gives one.", file=sys.stderr)
