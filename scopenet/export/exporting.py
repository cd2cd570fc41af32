"""The subcommand ``export``: from a trained network to one file, once it is verified."""

import argparse
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from detectron2.data.transforms import ResizeShortestEdge

from .. import __version__
from ..cli import add_detector, add_overrides
from ..config_file import to_yaml
from ..detector import Detector
from ..engine.network import Network
from ..errors import ConfigError
from ..images import read_image
from ..model_zoo.published_config import publishable
from ..modeling import ScopeNet
from ..runtime.metadata import PRECISIONS, Metadata
from ..runtime.predictor import network_size, resize
from .formats import FORMATS
from .graph import DetectionGraph, check_side
from .verification import Verification, find_samples, verify


def describe(network: Network, precision: str) -> Metadata:
    """Collect what an exported file is to say of itself; a ConfigError says that images are resized
    by something else than ``ResizeShortestEdge``."""
    resizing = list(network.mapper.augmentations.augs)
    if len(resizing) > 1 or not all(
        type(x) is ResizeShortestEdge and len(set(x.short_edge_length)) == 1 for x in resizing
    ):
        raise ConfigError(
            f"The config prepares test images by {resizing}; an exported detector only knows "
            "ResizeShortestEdge of one size."
        )
    return Metadata(
        version=__version__,
        class_names=network.class_names,
        min_size=int(resizing[0].short_edge_length[0]) if resizing else 0,
        max_size=int(resizing[0].max_size) if resizing else 0,
        precision=precision,
        thresholds=network.model.detection_options,
        config=yaml.safe_dump(publishable(to_yaml(network.config), "the config")),
    )


def export(
    network: Network,
    format_name: str,
    output: Path,
    *,
    precision: str,
    images: str,
    num_images: int,
    calibration: str,
    num_calibration_images: int,
) -> tuple[Path, Verification]:
    """Write ``output/model.<suffix>``, once it is verified, and beside it what the verification
    saw; before, nothing is changed there.

    Args:
        format_name: one of ``FORMATS``.
        precision: one of the format's.
        images, num_images: to verify with, see :func:`find_samples`.
        calibration, num_calibration_images: the same, to find the ranges of 8-bit integers.

    Raises:
        ConfigError: the model is no ScopeNet, there are no images, a package is missing, or the
            file does not find what the original finds.
    """
    target = FORMATS[format_name]
    if precision not in target.precisions:
        raise ConfigError(
            f"{format_name} has no precision {precision}, only {', '.join(target.precisions)}."
        )
    if not isinstance(network.model, ScopeNet):
        raise ConfigError(f"Only a ScopeNet can be exported, not {type(network.model).__name__}.")
    metadata = describe(network, precision)
    check_side(network.model, metadata.max_size)
    records = find_samples(images, num_images)
    is_int8 = precision == "int8"
    to_calibrate = find_samples(calibration, num_calibration_images) if is_int8 else []
    graph = DetectionGraph(network.model, reverses_channels=network.mapper.image_format == "RGB")
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output, prefix=".unverified-") as folder:
        path = Path(folder, f"model{target.suffix}")
        target.write(graph, metadata, path, [_network_input(x, metadata) for x in to_calibrate])
        verification = verify(network, target.load(path), images, records)
        verification.check(precision)
        report = json.dumps(asdict(verification), indent=1) + "\n"
        Path(folder, f"verification.{format_name}.json").write_text(report, encoding="utf-8")
        # The main file last: where it is, the others are.
        for part in sorted(Path(folder).iterdir(), key=lambda x: x == path):
            os.replace(part, output / part.name)
    return output / path.name, verification


def _network_input(record: dict, metadata: Metadata) -> np.ndarray:
    image = read_image(record["file_name"])
    height, width = image.shape[:2]
    return resize(image, *network_size(height, width, metadata.min_size, metadata.max_size))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Export a trained ScopeNet and verify it on images, see docs/deployment.md."
    )
    add_detector(parser)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="openvino has all of them"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for model.<suffix>")
    images = "a registered data set or a folder of images; by default the config's"
    parser.add_argument("--images", default="", help=f"to verify with: {images} test set")
    parser.add_argument("--num-images", type=int, default=300, help="of them; 0 for all")
    parser.add_argument("--calibration", default="", help=f"for int8: {images} training set")
    parser.add_argument("--num-calibration-images", type=int, default=300, help="0 for all")
    add_overrides(parser)
    return parser


def _source(given: str, datasets: Sequence[str], flag: str) -> str:
    if given or len(datasets) == 1:
        return given or datasets[0]
    raise ConfigError(f"The config names {len(datasets)} data sets; choose one with {flag}.")


def run(args: argparse.Namespace) -> None:
    """Export, and print what the verification saw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own, which no user can act on
        parts = {"weights": args.weights, "device": args.device, "overrides": args.opts}
        network = Detector.load(args.model, **parts).network
        if network is None:
            raise ConfigError(f"{args.model} is exported already; name the config or the training.")
        datasets = network.settings.DATASETS
        sources = {"images": _source(args.images, datasets.TEST, "--images"), "calibration": ""}
        if args.precision == "int8":
            sources["calibration"] = _source(args.calibration, datasets.TRAIN, "--calibration")
        path, verification = export(
            network,
            args.format,
            args.output,
            precision=args.precision,
            **sources,
            num_images=args.num_images,
            num_calibration_images=args.num_calibration_images,
        )
    print(f"{path}: {verification.describe()}")
