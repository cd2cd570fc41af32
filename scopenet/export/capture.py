"""Capturing a detection graph with ``torch.export``, for images of any size."""

import torch

# Private, but only in this way a size of 1 is left open; a test fails when the name goes.
from torch.fx.experimental import _config as shape_config

from .graph import DetectionGraph


def capture(graph: DetectionGraph) -> torch.export.ExportedProgram:
    """Write down what the graph computes, as a program without Python."""
    example = torch.zeros(256, 320, 3, dtype=torch.uint8)
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    # A side of one cell, as the coarse levels of small images have, is a size like all others.
    with torch.no_grad(), shape_config.patch(backed_size_oblivious=True):
        program = torch.export.export(
            graph, (example,), dynamic_shapes={"image": any_size}, strict=False
        )
    _clean(program)
    return program


def _clean(program: torch.export.ExportedProgram) -> None:
    """Drop the assertions on sizes (torchvision declares that NMS leaves two boxes or more) and the
    source lines, which name folders of this machine."""
    for node in reversed(program.graph.nodes):
        node.meta.pop("stack_trace", None)
        is_assertion = node.target is torch.ops.aten._assert_scalar.default
        is_comparison = getattr(node.target, "__module__", "") == "_operator"
        if is_assertion or (is_comparison and not node.users):
            program.graph.erase_node(node)
    program.graph_module.recompile()
