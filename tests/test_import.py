"""``import scopenet`` where torch or Detectron2 are missing or broken, and building without them.

Each case is a new process: here everything has been imported already.
"""

import os
import subprocess
import sys
from pathlib import Path

import scopenet

ROOT = Path(scopenet.__file__).resolve().parents[1]


def run(*arguments: str, path: tuple[Path, ...] = (), cwd: Path = ROOT):
    """Python with ``arguments``, and ``path`` before everything else that it can import."""
    entries = [*map(str, path), str(ROOT)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(entries), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def stub(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


PRINT_WHAT_IS_THERE = """
import sys
import scopenet
print(scopenet.__version__, hasattr(scopenet, "ScopeNet"))
print(sorted(m for m in sys.modules if m.startswith(("scopenet.", "torch", "detectron2"))))
"""


def test_without_torch_and_detectron2(tmp_path):
    # -S leaves out site-packages, as if nothing were installed.
    done = run("-S", "-c", PRINT_WHAT_IS_THERE, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{scopenet.__version__} False", "[]"]


def test_with_torch_alone(tmp_path):
    # As in a deployment: torch is there but need not be imported.
    stub(tmp_path, "torch", "raise AssertionError('imported')")
    done = run("-S", "-c", PRINT_WHAT_IS_THERE, path=(tmp_path,), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{scopenet.__version__} False", "[]"]


def test_with_broken_detectron2(tmp_path):
    stub(tmp_path, "torch", "")
    stub(tmp_path, "detectron2", "raise ImportError('built for another torch')")
    done = run("-c", "import scopenet", path=(tmp_path,), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ImportError: built for another torch"


def test_with_broken_torch(tmp_path):
    stub(tmp_path, "torch", "raise OSError('libcudart.so is missing')")
    stub(tmp_path, "detectron2", "import torch")
    done = run("-c", "import scopenet", path=(tmp_path,), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "OSError: libcudart.so is missing"


def test_registers_with_detectron2(tmp_path):
    code = """
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
names = lambda: ("ScopeNet" in META_ARCH_REGISTRY,
                 "build_p5_resnet_fpn_backbone" in BACKBONE_REGISTRY,
                 {"digits_train", "digits_val"} <= set(DatasetCatalog.list()))
print(*names())
import scopenet
print(*names(), *scopenet.__all__)
"""
    done = run("-W", "ignore", "-c", code, cwd=tmp_path)
    before, after = done.stdout.splitlines()
    assert before == "False False False"
    assert after.startswith("True True True ConfigError Detector ScopeHead ScopeNet ")


def test_build_does_not_import_torch(tmp_path):
    for name in ("torch", "detectron2", "numpy"):
        stub(tmp_path, name, f"raise AssertionError('{name} imported')")
    done = run("setup.py", "--version", path=(tmp_path,))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == scopenet.__version__
