"""The part of a ScopeNet that is exported: from the pixels of one image, of any size, to its
detections."""

import copy

import torch
from detectron2.modeling import MViT, SwinTransformer, ViT
from torch import Tensor, nn

# Private, but only in this way a size of 1 is left open; a test fails when the name goes.
from torch.fx.experimental import _config as shape_config
from torch.nn import functional as F

from ..errors import ConfigError
from ..modeling import ScopeNet
from ..modeling.detection import Detections, detect
from ..modeling.folding import fold_for_good
from ..modeling.joint_batch import padded_size, padding_of

MAX_SIDE = 16384  # px; without a bound the exporter's proofs on sizes overflow


def longest_side(model: ScopeNet) -> int:
    """Return how long a side of an image may be, px."""
    return padding_of(model.backbone)["square_size"] or MAX_SIDE


def needs_square(model: ScopeNet) -> bool:
    """Return whether the backbone's code branches on sizes, of which a graph keeps one branch: it
    is exported for images that are padded to a square."""
    return any(isinstance(x, MViT | SwinTransformer | ViT) for x in model.modules())


def check_side(model: ScopeNet, max_size: int) -> None:
    """Raise a ConfigError if images with sides of ``max_size`` px, 0 if these may be of any length,
    are too large for an exported detector, or its backbone looks at images of one size only."""
    square = padding_of(model.backbone)["square_size"]
    if (square or needs_square(model)) and not 0 < max_size <= square:
        raise ConfigError(
            "This backbone is exported for squares only: model.backbone.square_pad is "
            f"{square} and must be at least {max_size or MAX_SIDE} px, the longest side of a "
            "resized test image."
        )


class DetectionGraph(nn.Module):
    """Normalization, padding, the network, decoding and NMS.

    Args:
        model: is copied, and left as it is.
        reverses_channels: images are BGR and the model wants RGB.
    """

    def __init__(self, model: ScopeNet, *, reverses_channels: bool):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        fold_for_good(self.model.backbone)
        self.reverses_channels = reverses_channels

    @property
    def example(self) -> Tensor:
        """Make an image to be traced; the size is left open."""
        side = longest_side(self.model)
        return torch.zeros(min(256, side // 2), min(320, side - 1), 3, dtype=torch.uint8)

    @property
    def output_names(self) -> list[str]:
        """The names of what :meth:`forward` returns."""
        has_stds = self.model.error_weights is not None
        return [x for x in Detections._fields if has_stds or x != "border_stds"]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Detect objects in an image (H, W, 3) uint8 BGR. Returns the fields of
        :class:`~scopenet.modeling.detection.Detections` that the model has, in px of the image."""
        model = self.model
        height, width = image.shape[:2]
        if torch.compiler.is_exporting():
            torch._check(height <= longest_side(model))
            torch._check(width <= longest_side(model))
        pixels = image.permute(2, 0, 1)
        pixels = pixels.flip(0) if self.reverses_channels else pixels
        pixels = (pixels.float() - model.pixel_mean) / model.pixel_std
        to_height, to_width = padded_size((height, width), padding_of(model.backbone))
        padded = F.pad(pixels, (0, to_width - width, 0, to_height - height))
        features = model.backbone(padded[None])
        levels = model.head([features[name] for name in model.head_in_features])
        logits, bin_logits, deltas = ([x[0] for x in maps] for maps in levels)
        size = torch.stack([torch.scalar_tensor(x) for x in (height, width)])
        options = model.detection_options | {"error_weights": model.error_weights}
        found = detect(
            logits, bin_logits, deltas, model.log2_anchors, model.strides, size, **options
        )
        return tuple(x for x in found if x is not None)


def capture(graph: DetectionGraph) -> torch.export.ExportedProgram:
    """Write down what the graph computes, as a program without Python."""
    shapes = {"image": dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)}
    # A side of one cell, as the coarse levels of small images have, is a size like all others.
    with torch.no_grad(), shape_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(graph, (graph.example,), dynamic_shapes=shapes, strict=False)
    # Drop the assertions on sizes (torchvision declares that NMS leaves two boxes or more) and the
    # source lines, which name folders of this machine.
    for node in reversed(program.graph.nodes):
        node.meta.pop("stack_trace", None)
        is_assertion = node.target is torch.ops.aten._assert_scalar.default
        is_comparison = getattr(node.target, "__module__", "") == "_operator"
        if is_assertion or (is_comparison and not node.users):
            program.graph.erase_node(node)
    program.graph_module.recompile()
    return program
