#!/usr/bin/env python3
"""Find what is wrong with a data set in COCO format before training on it, see docs/own_data.md.

    python projects/ScopeNet/check_dataset.py --json cells/train.json --images cells/train \
        --fix cells/train_clean.json
"""

from scopenet.data.check.command import run

if __name__ == "__main__":
    run()
