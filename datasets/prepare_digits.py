#!/usr/bin/env python
"""Prepare Digits, or Bright Digits: handwritten digits on photographs, all from scikit-learn."""

import argparse
from pathlib import Path

from scopenet.data.builtin import dataset_root
from scopenet.data.digits import STYLES, prepare_digits
from scopenet.errors import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", choices=STYLES, default="digits", help="which of the two")
    parser.add_argument("--train", type=int, default=2000, help="number of training images")
    parser.add_argument("--val", type=int, default=300, help="number of validation images")
    parser.add_argument("--size", type=int, default=160, help="side of the images, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="determines all images")
    parser.add_argument(
        "--output", type=Path, default=dataset_root(), help="where its folder is made"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    sizes = {"train": args.train, "val": args.val, "size": args.size}
    with one_sentence_errors():
        written = prepare_digits(args.output, dataset=args.dataset, seed=args.seed, **sizes)
    state = f"wrote {' and '.join(written)}" if written else "complete, nothing to do"
    print(f"{args.output / args.dataset}: {state}")


if __name__ == "__main__":
    main()
