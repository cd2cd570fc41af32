"""The wheel that is built from the clone: complete, and enough to build a model and predict; with
the program, and without the laboratory; the sdist beside it, and both the same bytes every time."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from scopenet import __version__
from scopenet.cli import COMMANDS

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

HELP = """
from contextlib import suppress
from scopenet import cli

for name in cli.COMMANDS:
    with suppress(SystemExit):
        cli.run(name, ["--help"])
"""


FOLDERS = ("scopenet", "configs", "projects", "tests")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


def copy_source(source: Path) -> Path:
    """A clone without git, of what a build could put into a distribution."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that holds what an installation of the wheel would put into site-packages."""
    source = copy_source(tmp_path_factory.mktemp("source"))
    wheels = tmp_path_factory.mktemp("wheels")
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


def run_python(site: Path, folder: Path, *arguments: str) -> str:
    """What Python prints in ``folder``, with the wheel's content in place of the clone's."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel_finds_its_configs_and_predicts(site, tmp_path):
    *files, size = run_python(site, tmp_path, "-W", "ignore", "-c", PROGRAM).splitlines()[-5:]
    assert len(files) == 4 and all(Path(x).is_relative_to(site) for x in files)
    assert size == "(32, 32)"


@pytest.mark.slow
def test_wheel_has_the_program(site, tmp_path):
    (info,) = site.glob("*.dist-info")
    (script,) = Distribution.at(info).entry_points.select(group="console_scripts")
    assert (script.name, script.value) == ("scopenet", "scopenet.cli:main")
    said = run_python(site, tmp_path, "-m", "scopenet", "--help")
    assert all(f"\n  {name} " in said for name in COMMANDS)
    said = run_python(site, tmp_path, "-m", "scopenet", "--version")
    assert said.split()[:2] == ["scopenet", __version__] and "detectron2" in said


@pytest.mark.slow
def test_every_subcommand_of_the_wheel_says_what_it_takes(site, tmp_path):
    said = run_python(site, tmp_path, "-W", "ignore", "-c", HELP)
    assert all(f"usage: scopenet {name} " in said for name in COMMANDS)


@pytest.mark.slow
def test_every_extra_is_in_the_table_of_the_docs(site):
    (info,) = site.glob("*.dist-info")
    extras = Distribution.at(info).metadata.get_all("Provides-Extra")
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs/installation.md").read_text(), re.M)
    assert sorted(re.findall("`(.+?)`", " ".join(rows))) == sorted(extras)


@pytest.mark.slow
def test_distributions_are_the_same_every_time_and_hold_the_package_alone(tmp_path):
    """The wheel is built from the sdist, as by `make dist`."""
    sums = []
    for place in (tmp_path / "first", tmp_path / "second"):
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist")]
        env = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(command, cwd=copy_source(place), env=env, check=True, capture_output=True)
        files = sorted(place.glob("dist/*"))
        sums.append({x.name: hashlib.sha256(x.read_bytes()).hexdigest() for x in files})
    assert sums[0] == sums[1] and len(files) == 2
    checked = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, files)])
    assert checked.returncode == 0
    with tarfile.open(*place.glob("dist/*.tar.gz")) as archive:
        paths = {tuple(x.name.split("/")[1:]) for x in archive if x.isfile()}
    assert {x[0] for x in paths if len(x) > 1} == {"scopenet", "configs", "scopenet.egg-info"}
    assert {x[0] for x in paths if len(x) == 1} == {*FILES, "PKG-INFO", "setup.cfg"}


def test_the_version_to_cite_is_that_of_the_package():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
