#!/usr/bin/env python3
"""Write a COCO json for a folder of images with YOLO or Pascal VOC labels, see docs/own_data.md.

    python projects/ScopeNet/convert_dataset.py yolo --labels cells/labels/train \
        --images cells/images/train --names cells/data.yaml --output cells/train.json
"""

import argparse
import sys
from pathlib import Path

from scopenet import ConfigError
from scopenet.data.convert import convert

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["yolo", "voc"])
    parser.add_argument("--labels", type=Path, required=True, help="folder of the label files")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--names", type=Path, help="class names: one a line, or YOLO's data.yaml")
    parser.add_argument("--like", type=Path, help="COCO json whose categories to take instead")
    parser.add_argument("--output", type=Path, required=True, help="the COCO json to write")
    args = parser.parse_args()
    try:
        numbers = convert(**vars(args))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    print(f"Written to {args.output}: {', '.join(f'{n} {what}' for what, n in numbers.items())}.")
