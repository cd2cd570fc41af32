"""The two libraries that run exported files: each takes one image and returns its detections."""

import logging
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ConfigError
from .extras import import_extra
from .metadata import KEY, Metadata, parse_metadata
from .results import Outputs


class Backend(Protocol):
    """Loads a file; may be called from several threads at the same time."""

    metadata: Metadata

    def __call__(self, image: np.ndarray) -> Outputs:
        """Detect objects in an image (H, W, 3) uint8 BGR, in px of it."""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _provider(device: str, available: Sequence[str]) -> str:
    """Find what onnxruntime calls a device: "cuda" is its CUDAExecutionProvider."""
    devices = {x.removesuffix("ExecutionProvider").lower(): x for x in available}
    if device.lower() not in devices:
        raise ConfigError(
            f'The device "{device}" is not in this build of onnxruntime, which has '
            f"{', '.join(devices)}."
        )
    return devices[device.lower()]


class OnnxBackend:
    """Runs an .onnx file on onnxruntime.

    Args:
        path: an .onnx file.
        device: "cpu", "cuda", "tensorrt" or another of onnxruntime's.
        precision: None or that of the file.
        num_streams, num_threads: images at the same time, and threads for all of them; None leaves
            the number to the library.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        precision: str | None,
        num_streams: int,
        num_threads: int | None,
    ):
        runtime = import_extra("onnxruntime", "onnx")
        provider = _provider(device, runtime.get_available_providers())
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        # Threads that wait for work would keep the processor busy between two images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if num_threads:
            options.intra_op_num_threads = max(num_threads // num_streams, 1)
        try:
            self.session = runtime.InferenceSession(path, options, providers=[provider])
        except Exception as error:  # of onnxruntime's own kinds
            raise ConfigError(f"{path} cannot be read as ONNX: {_one_line(error)}.") from error
        properties = self.session.get_modelmeta().custom_metadata_map
        self.metadata = parse_metadata(properties.get(KEY, ""), str(path))
        if precision not in (None, self.metadata.precision):
            raise ConfigError(
                f"{path} runs in {self.metadata.precision}; for {precision} export it to OpenVINO."
            )

    def __call__(self, image: np.ndarray) -> Outputs:
        return Outputs(*self.session.run(list(Outputs._fields), {"image": image}))


@cache
def openvino_core() -> Any:
    """Return the one ``openvino.Core`` of this process.

    Its CPU plugin installs a stack for signal handlers. Of two that are freed in the order in which
    they came, the second reinstates the stack of the first, which is gone: with the next signal
    that Python handles, e.g. Ctrl-C, the process would crash (seen with OpenVINO 2026.4).
    """
    return import_extra("openvino", "openvino").Core()


class OpenVinoBackend:
    """Runs an .xml file on OpenVINO.

    Args:
        path: an .xml file, with its .bin beside it.
        device: "cpu" or another of OpenVINO's.
        precision: "float32" or "bfloat16" in place of what the file asks for.
        num_streams, num_threads: see :class:`OnnxBackend`.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        precision: str | None,
        num_streams: int,
        num_threads: int | None,
    ):
        core, device = openvino_core(), device.upper()
        if device.split(".")[0] not in core.available_devices:
            raise ConfigError(
                f'OpenVINO has no device "{device}" here, but {", ".join(core.available_devices)}.'
            )
        try:
            model = core.read_model(path)
        except Exception as error:  # RuntimeErrors of its own
            raise ConfigError(f"{path} cannot be read by OpenVINO: {_one_line(error)}.") from error
        has_metadata = model.has_rt_info([KEY])
        text = model.get_rt_info([KEY]).astype(str) if has_metadata else ""
        self.metadata = parse_metadata(text, str(path))
        settings = {"INFERENCE_PRECISION_HINT": self._hint(path, core, device, precision)}
        if num_threads:
            settings["INFERENCE_NUM_THREADS"] = num_threads
        settings["NUM_STREAMS"] = num_streams
        self.compiled = core.compile_model(model, device, settings)
        self.requests = threading.local()

    def _hint(self, path: Path, core, device: str, precision: str | None) -> str:
        """Say what the layers that are not quantized are computed in."""
        if precision == "int8" != self.metadata.precision:
            raise ConfigError(f"{path} is not quantized; export it with --precision int8.")
        wanted = precision or self.metadata.precision
        can_bfloat16 = "BF16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        if wanted == "bfloat16" and not can_bfloat16:
            logging.getLogger(__name__).warning("No bfloat16 in this device: running in float32.")
        return "bf16" if wanted == "bfloat16" and can_bfloat16 else "f32"

    def __call__(self, image: np.ndarray) -> Outputs:
        if not hasattr(self.requests, "own"):
            self.requests.own = self.compiled.create_infer_request()
        self.requests.own.infer({"image": image})
        found = (self.requests.own.get_tensor(name).data.copy() for name in Outputs._fields)
        return Outputs(*found)


BACKENDS = {".onnx": OnnxBackend, ".xml": OpenVinoBackend}


def load_backend(path: Path, **options) -> Backend:
    """Load a file with the library for its suffix.

    Raises:
        ConfigError: there is no such file, or its library is missing or cannot run it so.
    """
    if path.suffix not in BACKENDS:
        raise ConfigError(f"{path} is neither .onnx nor .xml, which this can run.")
    if not path.is_file():
        raise ConfigError(f"The exported model {path} does not exist.")
    return BACKENDS[path.suffix](path, **options)
