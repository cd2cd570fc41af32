"""The two libraries that run exported files: each takes one image and returns its detections."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ConfigError, import_extra, refused
from .metadata import KEY, Metadata, Outputs, parse_metadata


class Backend(Protocol):
    """A loaded file; may be called from several threads at the same time."""

    metadata: Metadata

    def __call__(self, image: np.ndarray) -> Outputs:
        """Detect objects in an image (H, W, 3) uint8 BGR, in px of it."""


@dataclass(frozen=True)
class Options:
    """How a file is to be run."""

    device: str = "cpu"  # or another that the library has, in upper or lower case
    precision: str | None = None  # None for that of the file
    num_streams: int = 1  # images at the same time
    num_threads: int | None = None  # for all of them; None leaves the number to the library


class OnnxBackend:
    """Runs an .onnx file on onnxruntime."""

    def __init__(self, path: Path, options: Options):
        runtime = import_extra("onnxruntime", "onnx")
        providers = runtime.get_available_providers()  # "cuda" is CUDAExecutionProvider
        devices = {x.removesuffix("ExecutionProvider").lower(): x for x in providers}
        if options.device.lower() not in devices:
            raise ConfigError(
                f'The device "{options.device}" is not in this build of onnxruntime, which has '
                f"{', '.join(devices)}."
            )
        settings = runtime.SessionOptions()
        settings.log_severity_level = 3  # errors
        # Threads that wait for work would keep the processor busy between two images.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if options.num_threads:
            settings.intra_op_num_threads = max(options.num_threads // options.num_streams, 1)
        with refused(f"{path} cannot be read as ONNX"):
            providers = [devices[options.device.lower()]]
            self.session = runtime.InferenceSession(path, settings, providers=providers)
            properties = self.session.get_modelmeta().custom_metadata_map
            inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
            self.names = _output_names([x.name for x in inputs], [x.name for x in outputs])
        self.metadata = parse_metadata(properties.get(KEY, ""), str(path))
        if options.precision not in (None, self.metadata.precision):
            raise ConfigError(
                f"{path} runs in {self.metadata.precision}; for {options.precision} export it to "
                "OpenVINO."
            )

    def __call__(self, image: np.ndarray) -> Outputs:
        return Outputs(*self.session.run(self.names, {"image": image}))


@cache
def openvino_core() -> Any:
    """Return the one ``openvino.Core`` of this process.

    Its CPU plugin installs a stack for signal handlers. Of two that are freed in the order in which
    they came, the second reinstates the stack of the first, which is gone: with the next signal
    that Python handles, e.g. Ctrl-C, the process would crash (seen with OpenVINO 2026.4).
    """
    return import_extra("openvino", "openvino").Core()


class OpenVinoBackend:
    """Runs an .xml file, with its .bin beside it, on OpenVINO."""

    def __init__(self, path: Path, options: Options):
        core, device = openvino_core(), options.device.upper()
        if device.split(".")[0] not in core.available_devices:
            raise ConfigError(
                f'OpenVINO has no device "{device}" here, but {", ".join(core.available_devices)}.'
            )
        with refused(f"{path} cannot be read by OpenVINO"):
            model = core.read_model(path)
            names = [
                [x for port in ports for x in port.names] for ports in (model.inputs, model.outputs)
            ]
            self.names = _output_names(*names)
        has_metadata = model.has_rt_info([KEY])
        text = model.get_rt_info([KEY]).astype(str) if has_metadata else ""
        self.metadata = parse_metadata(text, str(path))
        if options.precision == "int8" != self.metadata.precision:
            raise ConfigError(f"{path} is not quantized; export it with --precision int8.")
        precision = _hint(core, device, options.precision or self.metadata.precision)
        settings = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": options.num_streams}
        if options.num_threads:
            settings["INFERENCE_NUM_THREADS"] = options.num_threads
        with refused(f"{path} cannot be compiled by OpenVINO"):
            self.compiled = core.compile_model(model, device, settings)
        self.requests = threading.local()

    def __call__(self, image: np.ndarray) -> Outputs:
        if not hasattr(self.requests, "own"):
            self.requests.own = self.compiled.create_infer_request()
        self.requests.own.infer({"image": image})
        found = (self.requests.own.get_tensor(name).data.copy() for name in self.names)
        return Outputs(*found)


def _output_names(inputs: list[str], outputs: list[str]) -> list[str]:
    """Return the outputs to ask for; a ConfigError says that the model is no detector."""
    required = {x for x in Outputs._fields if x not in Outputs._field_defaults}
    if set(inputs) != {"image"} or not required <= set(outputs):
        raise ConfigError(f"it makes {', '.join(outputs)} of {', '.join(inputs)}, no detections")
    return [x for x in Outputs._fields if x in outputs]


def _hint(core: Any, device: str, precision: str) -> str:
    """Say what OpenVINO computes the layers in that are not quantized."""
    can_bfloat16 = "BF16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision == "bfloat16" and not can_bfloat16:
        logging.getLogger(__name__).warning("No bfloat16 in this device: running in float32.")
    return "bf16" if precision == "bfloat16" and can_bfloat16 else "f32"


BACKENDS: dict[str, Callable[[Path, Options], Backend]] = {
    ".onnx": OnnxBackend,
    ".xml": OpenVinoBackend,
}


def load_backend(path: Path, options: Options | None = None) -> Backend:
    """Load a file with the library for its suffix; a ConfigError says that there is no such file,
    or that its library is missing or cannot run it so."""
    if path.suffix not in BACKENDS:
        raise ConfigError(f"{path} is neither .onnx nor .xml, which this can run.")
    if not path.is_file():
        raise ConfigError(f"The exported model {path} does not exist.")
    return BACKENDS[path.suffix](path, options or Options())
