"""Build script. The version is read as text, so that building never imports torch or Detectron2."""

import gzip
import os
import re
import tarfile
import time
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"$',
    (ROOT / "scopenet" / "__init__.py").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
).group(1)

# Detectron2 is missing here on purpose: it has no release on PyPI under its own name, and a build
# that fits one's torch and CUDA is the user's choice. `make install` adds a pure Python copy where
# none is found (requirements-detectron2.txt); what Detectron2 itself imports is listed below.
# The lower bounds are the oldest versions this was tried with (CONTRIBUTING.md says how).
INSTALL_REQUIRES = [
    "torch>=2.8",
    "torchvision>=0.23",
    "fvcore>=0.1.5.post20221221",
    "iopath>=0.1.9",
    "pycocotools>=2.0.7,!=2.0.9,!=2.0.10",  # these two demand the optional field `info`
    "opencv-python>=4.10",
    "yacs>=0.1.8",
    "omegaconf>=2.2",
    "hydra-core>=1.3",
    "numpy>=1.26.1",
    "Pillow>=10.1",
    "matplotlib>=3.7",
    "termcolor>=2.0",
    "tabulate>=0.9",
    "cloudpickle>=2.2",
    "tqdm>=4.65",
    "tensorboard>=2.13",
    "packaging>=24.0",
    "safetensors>=0.4.3",
    "filelock>=3.12",
    # detectron2.model_zoo imports pkg_resources, which setuptools 81 and later no longer have.
    "setuptools>=66.1,<81",
]
# Of what reproduces the paper, which is not in the wheel: projects/ScopeNet/.
EXPERIMENTS = ["pandas>=2.1", "scipy>=1.11", "optuna>=4.9"]
# Of the subcommands of `scopenet`, by their names.
DATA = ["scikit-learn>=1.3"]  # demo: the images behind the Digits data set
ANALYSIS = ["jinja2>=3.1.2", "pandas>=2.1"]  # of `scopenet analyze`
CONVERT = ["globox>=2.9"]  # convert
TILES = ["sahi>=0.11.30"]  # convert tiles
WEB = ["gradio>=6.31,<7"]  # web
FAST_EVAL = ["faster-coco-eval>=1.8"]  # evaluation
TIMM = ["timm>=1.0.20"]  # backbones, docs/backbones.md
PARQUET = ["pyarrow>=16"]  # predict --format parquet
RAY = ["ray[data]>=2.60", *PARQUET]  # predict --engine ray
HUB = ["huggingface_hub>=1.16"]  # publish --hub, and models named hf://OWNER/NAME
CHECK = ["ImageHash>=4.3.1"]  # check --against
SUPERVISION = ["supervision>=0.26.1"]  # scopenet.runtime.to_supervision
WANDB = ["wandb>=0.31"]  # TRACKERS ['wandb']
# TRACKERS ['mlflow']: without its server and page, but with what its SQLite store imports.
MLFLOW = ["mlflow-skinny>=3.9", "sqlalchemy>=2.0", "alembic>=1.13"]
# Of exporting to these formats and of running them. They were tried with torch 2.14.
ONNX = ["onnx>=1.19", "onnxscript>=0.5", "onnxruntime>=1.20"]
OPENVINO = ["openvino>=2025.2", "nncf>=2.15", "onnx>=1.19", "onnxscript>=0.5"]
NOTEBOOKS = ["ipykernel>=6.25", "nbclient>=0.8", "nbformat>=5.9"]  # executing notebooks/
# A new minor version of ruff may format differently, one of mypy find more: they are raised by
# hand, in a commit of their own.
TESTS = ["hypothesis>=6.100", "moto[s3,server]>=5.2.2", "pytest>=8.4"]
LINT = ["mypy>=2.4,<2.5", "ruff>=0.17.6,<0.18"]
SITE = ["mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1.0"]  # make site
DIST = ["build>=1.2", "twine>=6.1"]  # make dist
DEV = [*TESTS, *LINT, *SITE, *DIST, *NOTEBOOKS]


class SameSdist(sdist):
    """Writes the same bytes for the same files and SOURCE_DATE_EPOCH, as setuptools does for wheels
    alone: nothing of when, by whom and from which folder it is built."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owners):
        seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def plain(entry):
            entry.mtime, entry.mode = seconds, 0o644 if entry.isfile() else 0o755
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            return entry

        path = f"{base_name}.tar.gz"
        with gzip.GzipFile(path, "wb", mtime=seconds) as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                archive.add(base_dir, filter=plain)  # by name
        return path


setup(
    name="scopenet",
    version=VERSION,
    description="ScopeNet for Detectron2: Scope Head for Accurate Localization in Object Detection",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["scopenet", "scopenet.*"]), "scopenet.configs"],
    package_dir={"scopenet.configs": "configs"},
    package_data={
        "scopenet": ["py.typed"],
        "scopenet.analysis": ["*.html", "*.css"],
        "scopenet.engine": ["nothing.json"],
        "scopenet.configs": ["**/*.yaml", "**/*.py", "**/*.csv"],
    },
    cmdclass={"sdist": SameSdist},
    entry_points={"console_scripts": ["scopenet = scopenet.cli:main"]},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "analysis": ANALYSIS,
        "check": CHECK,
        "convert": CONVERT,
        "data": DATA,
        "experiments": EXPERIMENTS,
        "fast-eval": FAST_EVAL,
        "hub": HUB,
        "mlflow": MLFLOW,
        "onnx": ONNX,
        "openvino": OPENVINO,
        "parquet": PARQUET,
        "ray": RAY,
        "supervision": SUPERVISION,
        "tiles": TILES,
        "timm": TIMM,
        "wandb": WANDB,
        "web": WEB,
        "dev": [
            *DEV,
            "scopenet[analysis,check,convert,data,experiments,fast-eval,hub,mlflow,onnx]",
            "scopenet[openvino,parquet,ray,supervision,tiles,timm,wandb,web]",
        ],
    },
)
