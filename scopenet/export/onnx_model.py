"""A detection graph as an ONNX model."""

import contextlib
import io
from pathlib import Path

import torch

from ..runtime.extras import import_extra
from ..runtime.metadata import KEY, Metadata
from ..runtime.results import Outputs
from .capture import capture
from .graph import DetectionGraph


def _sort_stable(x, stable=None, dim=-1, descending=False):
    """Translate ``aten::sort.stable`` of a vector, which PyTorch's exporter lacks; among equal
    values ONNX's TopK gives the first ones first, too."""
    op = import_extra("onnxscript", "onnx").opset18
    return op.TopK(x, op.Shape(x), axis=-1, largest=int(descending), sorted=1)


def write_onnx(graph: DetectionGraph, metadata: Metadata, path: Path) -> None:
    """Write a model with the input "image", (height, width, 3) uint8 BGR, and outputs named
    as the fields of ``Outputs``."""
    import_extra("onnx", "onnx")
    import_extra("onnxscript", "onnx")
    with contextlib.redirect_stdout(io.StringIO()):  # the steps that it reports
        exported = torch.onnx.export(
            capture(graph),
            dynamo=True,
            optimize=True,
            input_names=["image"],
            output_names=list(Outputs._fields),
            custom_translation_table={torch.ops.aten.sort.stable: _sort_stable},
            verbose=False,
        )
    model = exported.model
    for node in model.graph.all_nodes():  # where in the source it is from, with folders
        node.metadata_props.clear()
    model.graph.metadata_props.clear()
    shape = import_extra("onnx_ir", "onnx").Shape
    model.graph.inputs[0].shape = shape(["height", "width", 3])
    for output in model.graph.outputs:
        output.shape = shape(["detections", *output.shape[1:]])
    model.metadata_props[KEY] = metadata.to_json()
    exported.save(path)
