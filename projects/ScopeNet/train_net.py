#!/usr/bin/env python3
"""Train or evaluate ScopeNet, or any other detector of Detectron2, from a YAML or LazyConfig file.

    python projects/ScopeNet/train_net.py --config-file configs/ScopeNet_R_50_FPN_1x.yaml \
        --num-gpus 8

The flags are those of Detectron2's ``tools/train_net.py``, and four for data of one's own, see
docs/own_data.md.
"""

from detectron2.engine import default_argument_parser

from scopenet.data.custom import add_flags
from scopenet.engine.main import run

if __name__ == "__main__":
    run(add_flags(default_argument_parser()).parse_args())
