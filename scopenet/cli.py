"""The program ``scopenet``: one subcommand for everything that users do.

A subcommand is a module with two functions: ``parser()`` makes its ``ArgumentParser``, and
``run(args)`` does the work and returns None or an exit code. What is wrong with a user's input it
raises as a :class:`~scopenet.errors.ConfigError`. A new one is such a module and a row in
:data:`COMMANDS`.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from platform import python_version

from . import __version__
from .errors import one_sentence_errors

# Name -> (module, what it does), in the order of a project; imported when it is used.
COMMANDS = {
    "demo": ("demo", "prepare a small data set, train on it and draw what is found"),
    "convert": ("data.convert", "make a COCO json of YOLO or VOC labels, or cut images into tiles"),
    "split": ("data.split", "divide a COCO json into training and validation, by image"),
    "check": ("data.check.command", "find what is wrong with a data set before training on it"),
    "train": ("engine.command", "train or evaluate a detector"),
    "analyze": ("analysis.command", "show on one HTML page what a detector does well and badly"),
    "predict": ("predict.command", "run a detector on images, a video or a webcam"),
    "web": ("predict.web", "run a detector on a web page of this machine"),
    "export": ("export.exporting", "write a detector as ONNX, OpenVINO, pt2 or TorchScript"),
    "publish": ("model_zoo.publishing", "put a trained model into a model zoo"),
}
PACKAGES = ("torch", "torchvision", "detectron2", "numpy", "onnxruntime", "openvino")


def _help() -> str:
    rows = "\n".join(f"  {name:<9} {what}" for name, (_, what) in COMMANDS.items())
    return (
        "usage: scopenet COMMAND ...\n\nPrecise one-stage object detection on Detectron2.\n\n"
        f"{rows}\n\nscopenet COMMAND --help    what a command takes\nscopenet --version         "
        "the versions that matter"
    )


def _version(package: str) -> str:
    """Return the version of an installed package, perhaps repackaged under another name."""
    for name in (package, f"sal-{package}"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"


def versions() -> str:
    """List the versions that matter, a line each; nothing is imported for it."""
    rows = {"scopenet": __version__, "Python": python_version()}
    rows |= {name: _version(name) for name in PACKAGES}
    return "\n".join(f"{name:<12} {text}" for name, text in rows.items())


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Let a config's overrides follow, written in one way by all subcommands."""
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="override",
        help="of the config, last: KEY VALUE ..., of a LazyConfig path.key=value ...",
    )


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Let the user name a detector, by :meth:`scopenet.Detector.load`."""
    parser.add_argument(
        "--model",
        "--config-file",
        required=True,
        metavar="SOURCE",
        help="the detector: its config, the output folder of its training, the name of a published "
        "model, hf://OWNER/NAME of the Hugging Face Hub, or an exported .onnx or .xml file",
    )
    parser.add_argument("--weights", default="", help="a checkpoint, by default the source's own")
    parser.add_argument("--device", help="by default that of the config, or the CPU")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand, by default with the arguments of this process; return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h"):
        print(_help())
        return 0
    if name == "--version":
        print(versions())
        return 0
    if name not in COMMANDS:
        print(f"error: {name} is none of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    if missing := [x for x in ("torch", "detectron2") if not find_spec(x)]:
        print(
            f"error: {name} needs {' and '.join(missing)}; see docs/installation.md.",
            file=sys.stderr,
        )
        return 1
    return run(name, arguments[1:])


def run(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand ``name``; what its user can mend ends the program with one sentence."""
    with warnings.catch_warnings():
        # Importing fvcore's losses makes TorchScript of them, of which no user can do anything.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        import_module(".registration", __package__)
    module = import_module(f".{COMMANDS[name][0]}", __package__)
    parser = module.parser()
    parser.prog = f"scopenet {name}"
    args = parser.parse_args(arguments)
    with one_sentence_errors(getattr(module, "ERROR_CODE", 1)):
        return int(module.run(args) or 0)
