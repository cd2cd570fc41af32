"""Build script. The version is read as text, so that building never imports torch or Detectron2."""

import re
from pathlib import Path

from setuptools import find_packages, setup

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
    "torch>=2.4",
    "torchvision>=0.19",
    "fvcore>=0.1.5.post20221221",
    "iopath>=0.1.9",
    "pycocotools>=2.0.7,!=2.0.9,!=2.0.10",  # these two demand the optional field `info`
    "opencv-python>=4.8",
    "yacs>=0.1.8",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
    "numpy>=1.26.1",
    "Pillow>=9.5",
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
    "setuptools>=65.5,<81",
]
# Of what reproduces the paper, which is not in the wheel: projects/ScopeNet/.
EXPERIMENTS = ["pandas>=2.1", "scipy>=1.11"]
# Of the subcommands of `scopenet`, by their names.
DATA = ["scikit-learn>=1.3"]  # demo: the images behind the Digits data set
ANALYSIS = ["jinja2>=3.1.2", "pandas>=2.1"]  # of `scopenet analyze`
CONVERT = ["globox>=2.9"]  # convert
WEB = ["gradio>=6.31,<7"]  # web
TIMM = ["timm>=1.0.20"]  # backbones, docs/backbones.md
PARQUET = ["pyarrow>=16"]  # predict --format parquet
RAY = ["ray[data]>=2.60", *PARQUET]  # predict --engine ray
# Of exporting to these formats and of running them. They were tried with torch 2.14.
ONNX = ["onnx>=1.19", "onnxscript>=0.5", "onnxruntime>=1.20"]
OPENVINO = ["openvino>=2025.0", "nncf>=2.15", "onnx>=1.19", "onnxscript>=0.5"]
NOTEBOOKS = ["ipykernel>=6.25", "nbclient>=0.8", "nbformat>=5.9"]  # executing notebooks/
# A new minor version of ruff may format differently: it is raised by hand, in a commit of its own.
TESTS = ["hypothesis>=6.100", "moto[s3,server]>=5.2", "pytest>=8.4"]
DEV = [*TESTS, "ruff>=0.17.6,<0.18", *NOTEBOOKS]

setup(
    name="scopenet",
    version=VERSION,
    description="ScopeNet for Detectron2: Scope Head for Accurate Localization in Object Detection",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["scopenet", "scopenet.*"]), "scopenet.configs"],
    package_dir={"scopenet.configs": "configs"},
    package_data={
        "scopenet.analysis": ["*.html", "*.css"],
        "scopenet.engine": ["nothing.json"],
        "scopenet.configs": ["**/*.yaml", "**/*.py", "**/*.csv"],
    },
    entry_points={"console_scripts": ["scopenet = scopenet.cli:main"]},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "analysis": ANALYSIS,
        "convert": CONVERT,
        "data": DATA,
        "experiments": EXPERIMENTS,
        "web": WEB,
        "onnx": ONNX,
        "openvino": OPENVINO,
        "parquet": PARQUET,
        "ray": RAY,
        "timm": TIMM,
        "dev": [
            *DEV,
            "scopenet[analysis,convert,data,experiments,onnx,openvino,parquet,ray,timm,web]",
        ],
    },
)
