#!/usr/bin/env python3
"""Run a trained detector on images, a video or a webcam, see docs/demo.md.

    python projects/ScopeNet/demo.py --config-file configs/Digits-ScopeNet_R_18_FPN.yaml \
        --weights output/demo/training/model_final.pth --input datasets/digits/val \
        --borders --output output/pictures --json output/detections.json
"""

from scopenet.predict.command import run

if __name__ == "__main__":
    run()
