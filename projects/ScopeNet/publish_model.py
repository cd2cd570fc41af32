#!/usr/bin/env python3
"""Publish a trained model into a model zoo, see docs/model_zoo.md.

    python projects/ScopeNet/publish_model.py output/Digits-ScopeNet_R_18_FPN/model_final.pth \
        --config-file configs/Digits-ScopeNet_R_18_FPN.yaml --output output/model_zoo
"""

from scopenet.model_zoo.command import run

if __name__ == "__main__":
    run()
