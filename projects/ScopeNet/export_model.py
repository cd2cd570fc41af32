#!/usr/bin/env python3
"""Export a trained ScopeNet, see docs/deployment.md.

    python projects/ScopeNet/export_model.py --config-file configs/Digits-ScopeNet_R_18_FPN.yaml \
        --weights output/demo/training/model_final.pth --format onnx --output output/exported
"""

from scopenet.export.command import run

if __name__ == "__main__":
    run()
