"""What `make` would do, without doing it."""

import os
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


def test_only_a_tagged_commit_is_built(tmp_path):
    """A tag without a message will do, as in CONTRIBUTING.md. What was built before is kept."""

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)

    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" >> calls\n[ $1 = -m ] || echo 1.2\n')
    python.chmod(0o755)
    env = os.environ | {
        f"GIT_{x}_{y}": "x" for x in ("AUTHOR", "COMMITTER") for y in ("NAME", "EMAIL")
    }
    (tmp_path / "dist").mkdir()
    run("git", "init")
    run("git", "commit", "--allow-empty", "-m", "first")
    make = "make", "-f", str(ROOT / "Makefile"), "-o", "install", "dist", f"BIN={python}"
    assert "No names found" in run(*make).stderr
    assert (tmp_path / "dist").is_dir() and "build" not in (tmp_path / "calls").read_text()
    run("git", "tag", "v1.2")
    done = run(*make)
    assert done.returncode == 0, done.stderr
    assert "-m build --outdir dist\n-m twine check" in (tmp_path / "calls").read_text()


@pytest.mark.parametrize(
    ("package", "advice"),
    [
        ("cv2", "apt-get install libgl1"),
        ("torchvision", "make install without CPU=1"),
        ("detectron2.engine", "repair or uninstall it"),
    ],
)
def test_what_cannot_be_imported_is_said(tmp_path, package, advice):
    """And the environment does not pass for a whole one."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\ncase "$*" in *"import {package}"*) exit 1;; esac\n')
    python.chmod(0o755)
    command = ["make", "install", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and advice in done.stdout, done.stderr
    assert not (tmp_path / "venv/.installed").exists()
