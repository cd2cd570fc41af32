"""What is said where a package is missing that an extra brings."""

import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from zoos import refusal

from scopenet.errors import import_extra

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "report_results": ("pandas", "experiments"),
    "run_experiments": ("pandas", "experiments"),
    "search": ("optuna", "experiments"),
    "benchmark": ("pandas", "experiments"),
    "try_gpu": ("pandas", "experiments"),
    "compare_merging": ("sahi", "tiles"),
}
WITHOUT = """
import runpy, sys
name, sys.argv = sys.argv[1], [sys.argv[2], "--help"]
sys.modules[name] = None  # as if it were not installed
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def write_module(folder: Path, content: str) -> None:
    (folder / "made_up_package.py").write_text(content)


def test_it_is_a_package_that_is_named_and_the_one_that_is_missing(tmp_path, monkeypatch):
    """pip knows no packages by the names of their modules, nor what they need in turn."""
    said = 'is missing here: pip install "scopenet[tiles]" brings it, as does pip install'
    assert refusal(import_extra, "absent.part", "tiles") == f"absent {said} absent."
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "import needed.part")
    assert refusal(import_extra, "made_up_package", "tiles") == f"needed {said} needed."


@pytest.mark.parametrize("error", ["ImportError", "ModuleNotFoundError"])
def test_a_broken_package_is_not_called_missing(error, tmp_path, monkeypatch):
    """Nor is None, which is the name of an error that a package makes itself."""
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, f"raise {error}('lib.so: no such\\nfile.')")
    said = 'Of "scopenet[tiles]" something is broken here: lib.so: no such file.'
    assert refusal(import_extra, "made_up_package", "tiles") == said


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_of_the_clone_name_their_extra(program):
    package, extra = PROGRAMS[program]
    script = str(ROOT / f"projects/ScopeNet/{program}.py")
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT, package, script]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'projects/ScopeNet'}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = f'error: {package} is missing here: pip install "scopenet[{extra}]" brings it, as does '
    assert done.stderr == f"{said}pip install {package}.\n" and done.returncode == 1
    assert any(x.startswith(package) and f'"{extra}"' in x for x in requires("scopenet"))
