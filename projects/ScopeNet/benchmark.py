#!/usr/bin/env python3
"""Compare time and memory with Detectron2's FCOS and RetinaNet, see docs/performance.md.

python projects/ScopeNet/benchmark.py --output output/benchmark
"""

from scopenet.errors import brought_by, one_sentence_errors

with one_sentence_errors(), brought_by("experiments"):
    from benchmark.main import run

if __name__ == "__main__":
    run()
