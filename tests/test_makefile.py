"""What `make` would do, without doing it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("cpu", [[], ["CPU=1"]])
def test_pytorch_without_gpu_libraries_comes_first(tmp_path, cpu):
    command = ["make", "-n", "install", f"VENV={tmp_path / 'venv'}", *cpu]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    installs = [x for x in done.stdout.splitlines() if " pip install " in x]
    own = next(i for i, x in enumerate(installs) if "--editable" in x)
    assert [".org/whl/cpu" in x and '"torch>=' in x for x in installs[:own]] == [True] * len(cpu)
    assert not any("whl/cpu" in x for x in installs[own:])
