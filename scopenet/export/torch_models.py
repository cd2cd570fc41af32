"""A detection graph in the two formats of PyTorch, and what runs them for comparisons."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..runtime.metadata import KEY, Metadata, parse_metadata
from ..runtime.results import Outputs
from .capture import capture
from .graph import DetectionGraph

EXTRA_FILE = f"{KEY}.json"  # in the archives of PyTorch


class TorchBackend:
    """A :class:`~scopenet.runtime.backends.Backend` on PyTorch."""

    def __init__(self, module: Callable, metadata: Metadata):
        self.module = module
        self.metadata = metadata

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Outputs:
        return Outputs(*(x.numpy() for x in self.module(torch.from_numpy(image))))


def write_pt2(graph: DetectionGraph, metadata: Metadata, path: Path) -> None:
    """Write a file for ``torch.export.load``, before which torchvision has to be imported."""
    torch.export.save(capture(graph), path, extra_files={EXTRA_FILE: metadata.to_json()})


def load_pt2(path: Path) -> TorchBackend:
    """Load trusted input, see ``torch.export.load``."""
    extra = {EXTRA_FILE: ""}
    module = torch.export.load(path, extra_files=extra).module()
    return TorchBackend(module, parse_metadata(extra[EXTRA_FILE], str(path)))


def write_torchscript(graph: DetectionGraph, metadata: Metadata, path: Path) -> None:
    """Write a file for ``torch.jit.load``, by tracing; it runs at other sizes, too."""
    example = torch.zeros(256, 320, 3, dtype=torch.uint8)
    with torch.no_grad():
        traced = torch.jit.trace(graph, example, check_trace=False)
    torch.jit.save(traced, path, _extra_files={EXTRA_FILE: metadata.to_json()})


def load_torchscript(path: Path) -> TorchBackend:
    """Load trusted input, see ``torch.jit.load``."""
    extra = {EXTRA_FILE: ""}
    module = torch.jit.load(path, _extra_files=extra)
    return TorchBackend(module, parse_metadata(extra[EXTRA_FILE].decode(), str(path)))
