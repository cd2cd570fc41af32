"""A detection graph as an OpenVINO model, in 8-bit integers if wanted."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..runtime.extras import import_extra
from ..runtime.metadata import KEY, Metadata
from .graph import DetectionGraph
from .onnx_model import write_onnx

UNQUANTIZED = ("bin_score", "border_pred")


def _unquantized(model: Any) -> list[str]:
    """Name the convolutions whose outputs the borders are decoded from."""
    convolutions = (x for x in model.get_ordered_ops() if x.get_type_name() == "Convolution")
    weights = {x.get_friendly_name(): x.input_value(1).get_node() for x in convolutions}
    return [
        name
        for name, x in weights.items()
        if any(f"head.{layer}." in x.get_friendly_name() for layer in UNQUANTIZED)
    ]


def _quantize(model: Any, calibration: Sequence[np.ndarray]) -> Any:
    """Make all convolutions ones of 8-bit integers but the last ones of the borders, a small part
    of the work: the choice between two bins can be a close one, and a border jumps when it turns
    over."""
    nncf = import_extra("nncf", "openvino")
    return nncf.quantize(
        model,
        nncf.Dataset(calibration),
        subset_size=len(calibration),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=_unquantized(model)),
    )


def write_openvino(
    graph: DetectionGraph, metadata: Metadata, path: Path, calibration: Sequence[np.ndarray]
) -> None:
    """Write an .xml file and a .bin file beside it.

    With the precision "int8" the convolutions are quantized by NNCF after training; bfloat16 is a
    way of running the float32 weights.

    Args:
        calibration: images of the network's input size, (H, W, 3) uint8 BGR; for int8 only.
    """
    openvino = import_extra("openvino", "openvino")
    with TemporaryDirectory() as folder:
        onnx_path = Path(folder, "model.onnx")
        write_onnx(graph, metadata, onnx_path)
        model = openvino.Core().read_model(onnx_path)
        if metadata.precision == "int8":
            model = _quantize(model, calibration)
        model.set_rt_info(metadata.to_json(), [KEY])
        openvino.save_model(model, path, compress_to_fp16=False)
