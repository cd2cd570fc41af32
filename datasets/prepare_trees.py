#!/usr/bin/env python
"""Prepare the Trees data set: aerial photographs with boxes around tree crowns, from PyPI."""

import argparse
from pathlib import Path

from scopenet.data.coco_split import dataset_root
from scopenet.data.trees import prepare_trees


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--tile", type=int, default=400, help="side of the tiles, in pixels")
    parser.add_argument("--wheel", type=Path, help="the wheel of deepforest, if it is at hand")
    parser.add_argument(
        "--output", type=Path, default=dataset_root(), help="where the folder `trees` is made"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        written = prepare_trees(args.output, tile=args.tile, wheel=args.wheel)
    except (ValueError, RuntimeError) as error:
        raise SystemExit(str(error)) from None
    state = f"wrote {' and '.join(written)}" if written else "complete, nothing to do"
    print(f"{args.output / 'trees'}: {state}")


if __name__ == "__main__":
    main()
