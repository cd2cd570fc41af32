"""The files that a detection graph is written to: one function per kind, and a row in FORMATS."""

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import import_extra
from ..runtime.backends import Backend, load_backend
from ..runtime.metadata import KEY, Metadata, Outputs, parse_metadata
from .graph import DetectionGraph, capture

EXTRA_FILE = f"{KEY}.json"  # in the archives of PyTorch
UNQUANTIZED = ("head.bin_score.", "head.border_pred.")  # what borders are decoded from
Images = Sequence[np.ndarray]


class TorchBackend:
    """A :class:`~scopenet.runtime.backends.Backend` on PyTorch, for comparisons."""

    def __init__(self, module: Callable, metadata: Metadata):
        self.module, self.metadata = module, metadata

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Outputs:
        return Outputs(*(x.numpy() for x in self.module(torch.from_numpy(image))))


def write_pt2(graph: DetectionGraph, metadata: Metadata, path: Path, _: Images) -> None:
    """Write a file for ``torch.export.load``, before which torchvision has to be imported."""
    torch.export.save(capture(graph), path, extra_files={EXTRA_FILE: metadata.to_json()})


def load_pt2(path: Path) -> TorchBackend:
    """Load trusted input, see ``torch.export.load``."""
    extra = {EXTRA_FILE: ""}
    module = torch.export.load(path, extra_files=extra).module()
    return TorchBackend(module, parse_metadata(extra[EXTRA_FILE], str(path)))


def write_torchscript(graph: DetectionGraph, metadata: Metadata, path: Path, _: Images) -> None:
    """Write a file for ``torch.jit.load``, by tracing; it runs at other sizes, too."""
    with torch.no_grad():
        traced = torch.jit.trace(graph, graph.example, check_trace=False)
    torch.jit.save(traced, path, _extra_files={EXTRA_FILE: metadata.to_json()})


def load_torchscript(path: Path) -> TorchBackend:
    """Load trusted input, see ``torch.jit.load``."""
    extra = {EXTRA_FILE: ""}
    module = torch.jit.load(path, _extra_files=extra)
    return TorchBackend(module, parse_metadata(extra[EXTRA_FILE], str(path)))


def write_onnx(graph: DetectionGraph, metadata: Metadata, path: Path, _: Images = ()) -> None:
    """Write a model with the input "image", (height, width, 3) uint8 BGR, and outputs named
    as the fields of ``Outputs``."""
    import_extra("onnx", "onnx")
    op = import_extra("onnxscript", "onnx").opset18

    def sort_stable(x, stable=None, dim=-1, descending=False):
        """Translate ``aten::sort.stable`` of a vector, which PyTorch's exporter lacks; among equal
        values ONNX's TopK gives the first ones first, too."""
        return op.TopK(x, op.Shape(x), axis=-1, largest=int(descending), sorted=1)

    options: Any = {"input_names": ["image"], "output_names": graph.output_names}
    options["custom_translation_table"] = {torch.ops.aten.sort.stable: sort_stable}
    with contextlib.redirect_stdout(io.StringIO()):  # the steps that it reports
        exported: Any = torch.onnx.export(
            capture(graph), dynamo=True, optimize=True, verbose=False, **options
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


def _quantize(model: Any, calibration: Images) -> Any:
    """Make all convolutions ones of 8-bit integers but the last ones of the borders, a small part
    of the work: the choice between two bins can be a close one, and a border jumps when it turns
    over."""
    nncf = import_extra("nncf", "openvino")
    convolutions = [x for x in model.get_ordered_ops() if x.get_type_name() == "Convolution"]
    weights = {x.get_friendly_name(): x.input_value(1).get_node() for x in convolutions}
    kept = [k for k, x in weights.items() if any(y in x.get_friendly_name() for y in UNQUANTIZED)]
    options = {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(calibration)}
    scope = nncf.IgnoredScope(names=kept)
    return nncf.quantize(model, nncf.Dataset(calibration), ignored_scope=scope, **options)


def write_openvino(
    graph: DetectionGraph, metadata: Metadata, path: Path, calibration: Images = ()
) -> None:
    """Write an .xml file and a .bin file beside it. bfloat16 is a way of running the float32
    weights; for int8 the convolutions are quantized by NNCF, with the images."""
    openvino = import_extra("openvino", "openvino")
    with TemporaryDirectory() as folder:
        onnx_path = Path(folder, "model.onnx")
        write_onnx(graph, metadata, onnx_path)
        # Not read_model: ReLU6 and biases have to be fused before NNCF looks for what it quantizes.
        model = openvino.convert_model(onnx_path)
        if metadata.precision == "int8":
            model = _quantize(model, calibration)
        model.set_rt_info(metadata.to_json(), [KEY])
        openvino.save_model(model, path, compress_to_fp16=False)


class Format(NamedTuple):
    suffix: str  # of its main file
    precisions: tuple[str, ...]
    # Writes a file; the images are of the network's size, (H, W, 3) uint8 BGR, for int8 only.
    write: Callable[[DetectionGraph, Metadata, Path, Images], None]
    load: Callable[[Path], Backend]  # to be verified


FORMATS = {
    "pt2": Format(".pt2", ("float32",), write_pt2, load_pt2),
    "torchscript": Format(".ts", ("float32",), write_torchscript, load_torchscript),
    "onnx": Format(".onnx", ("float32",), write_onnx, load_backend),
    "openvino": Format(".xml", ("float32", "bfloat16", "int8"), write_openvino, load_backend),
}
