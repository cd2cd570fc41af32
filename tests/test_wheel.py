"""The wheel that is built from the clone: complete, and enough to build a model and predict."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import torch
import scopenet
from scopenet import model_zoo

print(scopenet.__file__)
for name in ("ScopeNet_R_50_FPN_1x.yaml", "ScopeNet_R_50_FPN_1x.py", "paper/table4/gn.yaml"):
    print(model_zoo.get_config_file(name))
    model_zoo.get_config(name)
model = model_zoo.get("Digits-ScopeNet_R_18_FPN.yaml", device="cpu").eval()
with torch.no_grad():
    (output,) = model([{"image": torch.zeros(3, 64, 64), "height": 32, "width": 32}])
print(output["instances"].image_size)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that holds what an installation of the wheel would put into site-packages."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("scopenet", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *command, str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.iterdir()
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.mark.slow
def test_wheel_is_complete(site):
    def content(folder: Path) -> set[str]:
        return {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert content(site / "scopenet" / "configs") == content(ROOT / "configs")
    found = {x for x in content(site / "scopenet") if not x.startswith("configs/")}
    assert found == content(ROOT / "scopenet")
    assert {x.name for x in site.iterdir() if x.suffix != ".dist-info"} == {"scopenet"}


@pytest.mark.slow
def test_wheel_finds_its_configs_and_predicts(site, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *files, size = done.stdout.splitlines()[-5:]
    assert len(files) == 4 and all(Path(x).is_relative_to(site) for x in files)
    assert size == "(32, 32)"
