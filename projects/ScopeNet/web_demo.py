#!/usr/bin/env python3
"""Show on a web page of this machine what a trained detector finds, see docs/demo.md.

    python projects/ScopeNet/web_demo.py --config-file configs/Digits-ScopeNet_R_18_FPN.yaml \
        --weights output/demo/training/model_final.pth
"""

from scopenet.predict.web import run

if __name__ == "__main__":
    run()
