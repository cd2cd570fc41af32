#!/usr/bin/env python3
"""Train or evaluate ScopeNet, or any other detector of Detectron2, from a YAML or LazyConfig file.

    python projects/ScopeNet/train_net.py --config-file configs/ScopeNet_R_50_FPN_1x.yaml \
        --num-gpus 8

The same as ``scopenet train``. The flags are those of Detectron2's ``tools/train_net.py``, and four
for data of one's own, see docs/own_data.md.
"""

import sys

from scopenet.cli import run

if __name__ == "__main__":
    sys.exit(run("train"))
