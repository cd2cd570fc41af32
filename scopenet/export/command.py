"""The subcommand ``export``: write a detector as one file, once it is verified."""

import argparse
import warnings
from pathlib import Path

from ..cli import add_detector, add_overrides
from ..detector import Detector
from ..errors import ConfigError
from ..runtime.metadata import PRECISIONS
from .exporting import FORMATS, export


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Export a trained ScopeNet and verify it on images, see docs/deployment.md."
    )
    add_detector(parser)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="bfloat16 and int8 are for openvino",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for model.<suffix>")
    images = "a registered data set or a folder of images"
    parser.add_argument(
        "--images", default="", help=f"to verify with: {images}; by default the config's test set"
    )
    parser.add_argument("--num-images", type=int, default=300, help="of them; 0 for all")
    parser.add_argument(
        "--calibration", default="", help=f"for int8: {images}; by default the training set"
    )
    parser.add_argument("--num-calibration-images", type=int, default=300, help="0 for all")
    add_overrides(parser)
    return parser


def _source(given: str, datasets: tuple[str, ...], flag: str) -> str:
    if given or len(datasets) == 1:
        return given or datasets[0]
    raise ConfigError(f"The config names {len(datasets)} data sets; choose one with {flag}.")


def run(args: argparse.Namespace) -> None:
    """Export, and print what the verification saw.

    Raises:
        ConfigError: see :func:`~scopenet.export.exporting.export`, or the detector is no network.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own, which no user can act on
        network = Detector.load(
            args.model, weights=args.weights, device=args.device, overrides=args.opts
        ).network
        if network is None:
            raise ConfigError(f"{args.model} is exported already; name the config or the training.")
        datasets, calibration = network.settings.DATASETS, ""
        if args.precision == "int8":
            calibration = _source(args.calibration, datasets.TRAIN, "--calibration")
        path, verification = export(
            network,
            args.format,
            args.output,
            precision=args.precision,
            images=_source(args.images, datasets.TEST, "--images"),
            num_images=args.num_images,
            calibration=calibration,
            num_calibration_images=args.num_calibration_images,
        )
    print(f"{path}: {verification.describe()}")
