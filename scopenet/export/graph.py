"""The part of a ScopeNet that is exported: from the pixels of one image to its detections."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..modeling import ScopeNet
from ..modeling.detection import detect
from ..modeling.folding import fold_for_good

MAX_SIDE = 16384  # px; without a bound the exporter's proofs on sizes overflow


class DetectionGraph(nn.Module):
    """Normalization, padding, the network, decoding and NMS of one image of any size.

    Args:
        model: is copied, and left as it is.
        reverses_channels: images are BGR and the model wants RGB.
    """

    def __init__(self, model: ScopeNet, *, reverses_channels: bool):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        fold_for_good(self.model.backbone)
        self.reverses_channels = reverses_channels

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Detect objects.

        Args:
            image: (H, W, 3) uint8 BGR.

        Returns:
            the fields of :class:`~scopenet.modeling.detection.Detections`, in px of the image.
        """
        model = self.model
        height, width = image.shape[:2]
        if torch.compiler.is_exporting():
            torch._check(height <= MAX_SIDE)
            torch._check(width <= MAX_SIDE)
        pixels = image.permute(2, 0, 1)
        pixels = pixels.flip(0) if self.reverses_channels else pixels
        pixels = (pixels.float() - model.pixel_mean) / model.pixel_std
        divisor = max(model.backbone.size_divisibility, 1)
        padded = F.pad(pixels, (0, -width % divisor, 0, -height % divisor))
        features = model.backbone(padded[None])
        predictions = model.head([features[name] for name in model.head_in_features])
        found = detect(
            *([x[0] for x in maps] for maps in predictions),
            model.log2_anchors,
            model.strides,
            torch.stack([torch.scalar_tensor(x) for x in (height, width)]),
            **model.detection_options,
        )
        return tuple(found)
