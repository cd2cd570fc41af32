#!/usr/bin/env python3
"""Show on one HTML page what a trained detector does well and badly, see docs/analysis.md.

    python projects/ScopeNet/analyze.py --config-file configs/ScopeNet_R_50_FPN_1x.yaml \
        --weights output/ScopeNet_R_50_FPN_1x/model_final.pth --output output/analysis.html
"""

from scopenet.analysis.command import run

if __name__ == "__main__":
    run()
