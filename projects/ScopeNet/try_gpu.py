#!/usr/bin/env python3
"""Try all of this on a GPU, within ten minutes and without a network: tests, trainings in every
precision, a profile and timings, on one page. See docs/performance.md.

python projects/ScopeNet/try_gpu.py --output output/gpu
"""

from scopenet.errors import brought_by, one_sentence_errors

with one_sentence_errors(), brought_by("experiments"):
    from trial.main import run

if __name__ == "__main__":
    run()
