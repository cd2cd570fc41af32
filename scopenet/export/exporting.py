"""From a trained network to a verified file."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from detectron2.data.transforms import ResizeShortestEdge

from .. import __version__
from ..config_file import to_yaml
from ..engine.network import Network
from ..errors import ConfigError
from ..images import read_image
from ..model_zoo.published_config import publishable
from ..modeling import ScopeNet
from ..runtime.backends import Backend, OnnxBackend, OpenVinoBackend
from ..runtime.metadata import Metadata
from ..runtime.resize import network_size, resize
from .graph import DetectionGraph
from .onnx_model import write_onnx
from .openvino_model import write_openvino
from .samples import find_samples, is_labelled
from .torch_models import load_pt2, load_torchscript, write_pt2, write_torchscript
from .verification import Verification, verify


@dataclass(frozen=True)
class Format:
    """A kind of file; a new one is a row in :data:`FORMATS`.

    Attributes:
        suffix: of its main file.
        precisions: it can have.
        write: (graph, metadata, path, calibration images).
        load: to be verified.
    """

    suffix: str
    precisions: tuple[str, ...]
    write: Callable[[DetectionGraph, Metadata, Path, Sequence[np.ndarray]], None]
    load: Callable[[Path], Backend]


def _uncalibrated(write: Callable[[DetectionGraph, Metadata, Path], None]) -> Callable:
    return lambda graph, metadata, path, calibration: write(graph, metadata, path)


_ALONE = {"device": "cpu", "precision": None, "num_streams": 1, "num_threads": None}
FORMATS = {
    "pt2": Format(".pt2", ("float32",), _uncalibrated(write_pt2), load_pt2),
    "torchscript": Format(".ts", ("float32",), _uncalibrated(write_torchscript), load_torchscript),
    "onnx": Format(
        ".onnx", ("float32",), _uncalibrated(write_onnx), lambda x: OnnxBackend(x, **_ALONE)
    ),
    "openvino": Format(
        ".xml",
        ("float32", "bfloat16", "int8"),
        write_openvino,
        lambda x: OpenVinoBackend(x, **_ALONE),
    ),
}


def describe(network: Network, precision: str) -> Metadata:
    """Collect what an exported file is to say of itself.

    Raises:
        ConfigError: images are not resized by ``ResizeShortestEdge`` alone.
    """
    resizing = list(network.mapper.augmentations.augs)
    if any(type(x) is not ResizeShortestEdge or x.is_range for x in resizing) or len(resizing) > 1:
        raise ConfigError(
            f"The config prepares test images by {resizing}; an exported detector only knows "
            "ResizeShortestEdge of one size."
        )
    min_size = resizing[0].short_edge_length[0] if resizing else 0
    max_size = resizing[0].max_size if resizing else 0
    return Metadata(
        version=__version__,
        class_names=network.class_names,
        min_size=int(min_size),
        max_size=int(max_size),
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
        images, num_images: to verify with, a registered data set or a folder, and how many of them
            (0 is all).
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
    records = find_samples(images, num_images)
    is_int8 = precision == "int8"
    to_calibrate = find_samples(calibration, num_calibration_images) if is_int8 else []
    graph = DetectionGraph(network.model, reverses_channels=network.mapper.image_format == "RGB")
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output, prefix=".unverified-") as folder:
        path = Path(folder, f"model{target.suffix}")
        target.write(graph, metadata, path, [_network_input(x, metadata) for x in to_calibrate])
        verification = verify(
            network, target.load(path), records, images if is_labelled(images) else None
        )
        verification.check(precision)
        report = json.dumps(verification.to_dict(), indent=1) + "\n"
        Path(folder, f"verification.{format_name}.json").write_text(report, encoding="utf-8")
        # The main file last: where it is, the others are.
        for part in sorted(Path(folder).iterdir(), key=lambda x: x == path):
            os.replace(part, output / part.name)
    return output / path.name, verification


def _network_input(record: dict, metadata: Metadata) -> np.ndarray:
    image = read_image(record["file_name"])
    size = network_size(*image.shape[:2], metadata.min_size, metadata.max_size)
    return resize(image, *size)
