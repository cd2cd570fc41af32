"""What ``export_model.py`` does."""

import argparse
import sys
import warnings
from pathlib import Path
from urllib.error import URLError

from ..errors import ConfigError
from ..engine.trained import TrainedDetector, load_trained
from .exporting import FORMATS, export


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Export a trained ScopeNet and verify it on images, see docs/deployment.md."
    )
    parser.add_argument("--config-file", required=True, help="of the training")
    parser.add_argument("--weights", default="", help="a checkpoint, by default the config's")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "int8"), default="float32",
        help="bfloat16 and int8 are for openvino",
    )  # fmt: skip
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
    parser.add_argument(
        "overrides", nargs="*", help="KEY VALUE ..., or path.key=value for a LazyConfig"
    )
    return parser


def _source(given: str, datasets: tuple[str, ...], flag: str) -> str:
    if given or len(datasets) == 1:
        return given or datasets[0]
    raise ConfigError(f"The config names {len(datasets)} data sets; choose one with {flag}.")


def _export(args: argparse.Namespace, detector: TrainedDetector) -> None:
    is_int8 = args.precision == "int8"
    path, verification = export(
        detector,
        args.format,
        args.output,
        precision=args.precision,
        images=_source(args.images, detector.test_datasets, "--images"),
        num_images=args.num_images,
        calibration=is_int8 and _source(args.calibration, detector.train_datasets, "--calibration"),
        num_calibration_images=args.num_calibration_images,
    )
    print(f"{path}: {verification.describe()}")


def run() -> None:
    """The program; what is wrong with its input ends it with one sentence."""
    args = parser().parse_args()
    warnings.simplefilter("ignore")  # the exporters' own, which no user can act on
    try:
        _export(args, load_trained(args.config_file, args.weights, args.overrides))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except URLError as error:
        sys.exit(f"error: The weights could not be downloaded ({error.reason}).")
    except OSError as error:
        sys.exit(f"error: {args.output} cannot be written ({error.strerror}).")
