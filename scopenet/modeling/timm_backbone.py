"""Backbones of timm (https://github.com/huggingface/pytorch-image-models) below a pyramid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, import_extra, refused
from .backbone import p5_fpn

SCHEME = "timm://"  # of the address of weights: timm://NAME.TAG or timm://NAME.TAG@REVISION
PREFIX = "backbone.bottom_up.model."  # of their names in a detector


class SameConv2d(nn.Conv2d):
    """Pads as TensorFlow's "same" does where the stride divides the size, as it does here. timm's
    computes it from the size, over which an exporter that leaves the size open thinks for long."""

    def forward(self, x: Tensor) -> Tensor:
        sides = zip(self.kernel_size[::-1], self.stride[::-1], self.dilation[::-1], strict=True)
        added = [max(d * (k - 1) + 1 - s, 0) for k, s, d in sides]
        x = F.pad(x, [side for n in added for side in (n // 2, n - n // 2)])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class TimmBackbone(Backbone):
    """Gives the features of a model of timm Detectron2's names: ``res3`` has stride 2^3.

    It starts from random weights: pretrained ones are loaded into a detector as other weights are,
    see :func:`pretrained_weights`, so that one that is resumed or trained already needs no hub.
    """

    def __init__(
        self,
        name: str,
        out_features: Sequence[str] = ("res3", "res4", "res5"),
        freeze_at: int = 2,
        freeze_norms: bool = True,
    ):
        """
        Args:
            name: of a model of timm.
            out_features: "res" with the binary logarithm of a stride, each.
            freeze_at: what leads to the features of stride 2^freeze_at is not trained.
            freeze_norms: no batch normalization is trained.

        Raises:
            ConfigError: timm is missing, or makes no such backbone.
            ValueError: the model has no features of these strides.
        """
        super().__init__()
        timm = import_extra("timm", "timm")
        with refused(f"timm {timm.__version__} makes no backbone of MODEL.TIMM.NAME {name}"):
            if not timm.is_model(name):  # of another source, too, which would be downloaded
                raise ConfigError("it has no such model")
            self.model = timm.create_model(name, features_only=True)
        info = self.model.feature_info
        index_of = {f"res{x.bit_length() - 1}": i for i, x in enumerate(info.reduction())}
        if missing := {*out_features} - {*index_of}:
            raise ValueError(f"{name} of timm has {', '.join(index_of)}, not {', '.join(missing)}")
        self._out_features = list(out_features)
        self._index_of = {x: index_of[x] for x in out_features}
        self._out_feature_strides = {x: info.reduction()[i] for x, i in self._index_of.items()}
        self._out_feature_channels = {x: info.channels()[i] for x, i in self._index_of.items()}
        self._is_nhwc = getattr(self.model, "output_fmt", "NCHW") == "NHWC"  # of Swin, for instance
        for module in self.model.modules():
            if isinstance(module, timm.layers.Conv2dSame):
                module.__class__ = SameConv2d
        names, modules = zip(*self.model.named_modules(), strict=True)
        low = [x for i, x in enumerate(info.module_name()) if info.reduction()[i] <= 2**freeze_at]
        frozen = modules[1 : _end_of(low[-1], names)] if low and freeze_at else ()
        norms = [x for x in modules if isinstance(x, nn.BatchNorm2d)]
        self._frozen_norms = norms if freeze_norms else [x for x in norms if x in frozen]
        for module in (*frozen, *self._frozen_norms):
            for x in module.parameters(recurse=False):
                x.requires_grad_(False)

    def train(self, mode: bool = True):
        """Set the mode of all but the frozen batch normalizations. They are not converted to
        Detectron2's frozen ones, which would drop the activation that timm's have in them."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features (B, channels, H, W) of images (B, 3, H, W)."""
        features = self.model(images)
        found = {name: features[i] for name, i in self._index_of.items()}
        return {k: x.permute(0, 3, 1, 2) for k, x in found.items()} if self._is_nhwc else found


def _end_of(name: str, names: Sequence[str]) -> int:
    """Return where, in the order of their use, modules end that are in the one timm calls so."""
    flat = [f"{x}.".removeprefix("model.").replace(".", "_") for x in names]  # as it does itself
    inside = [i for i, x in enumerate(flat) if x.startswith(name.replace(".", "_") + "_")]
    if not inside:
        raise ValueError(
            f"timm does not say where its {name} ends: set MODEL.BACKBONE.FREEZE_AT to 0 and, to "
            "freeze by names, MODEL.FREEZE"
        )
    return inside[-1] + 1


def timm_fpn(
    *,
    name: str,
    in_features: Sequence[str] = ("res3", "res4", "res5"),
    freeze_at: int = 2,
    freeze_norms: bool = True,
    **options,
) -> FPN:
    """Build a pyramid p3 to p7 on a :class:`TimmBackbone`; ``options`` are those of
    :func:`~scopenet.modeling.backbone.p5_fpn`."""
    bottom_up = TimmBackbone(name, in_features, freeze_at, freeze_norms)
    return p5_fpn(bottom_up, in_features, **options)


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """Build what :func:`timm_fpn` does from a config."""
    fpn, timm, freeze_at = cfg.MODEL.FPN, cfg.MODEL.TIMM, cfg.MODEL.BACKBONE.FREEZE_AT
    bottom_up = TimmBackbone(timm.NAME, fpn.IN_FEATURES, freeze_at, timm.FREEZE_NORMS)
    return p5_fpn(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, fpn.FUSE_TYPE)


def pretrained_weights(address: str) -> dict[str, Tensor]:
    """Fetch weights ``timm://NAME.TAG`` or ``timm://NAME.TAG@REVISION``, by their names in a
    detector, as safetensors from the Hugging Face hub or from its cache here; raise a ConfigError
    if there are none."""
    known, revision = _source(address)
    try:
        file = import_extra("huggingface_hub", "timm").hf_hub_download(
            known.hf_hub_id, "model.safetensors", revision=revision
        )
    except Exception as error:  # of the hub, of the network and of the disk, in many words
        raise ConfigError(
            f"The weights {address} are not in the cache of Hugging Face here, and cannot be "
            f"fetched ({type(error).__name__}): leave HF_HUB_OFFLINE unset where there is a "
            f"connection, or bring {known.hf_hub_id} there, or set MODEL.WEIGHTS (LazyConfig: "
            "train.init_checkpoint) to other weights."
        ) from error
    with refused(f"timm cannot use the weights {file}"):
        options = {"features_only": True, "pretrained_cfg_overlay": {"file": file}}
        name = f"{known.architecture}.{known.tag}"
        model = import_extra("timm", "timm").create_model(name, pretrained=True, **options)
    return {f"{PREFIX}{k}": x for k, x in model.state_dict().items()}


def _source(address: str) -> tuple[Any, str | None]:
    """Return what timm knows of the weights of an address, and the revision if it names one."""
    name, _, revision = address.removeprefix(SCHEME).partition("@")
    timm = import_extra("timm", "timm")
    with refused(f"timm {timm.__version__} knows no weights {address}"):
        return timm.get_pretrained_cfg(name, allow_unregistered=False), revision or None


def check_pixels(address: str, mean: Sequence[float], std: Sequence[float], order: str) -> None:
    """Raise a ConfigError if a detector gives images to weights of this address otherwise than
    they were trained: ``mean`` and ``std`` are those of its config, for channels in ``order``."""
    known, _ = _source(address)
    wanted = [[round(255 * x, 3) for x in values] for values in (known.mean, known.std)]
    if order != "RGB" or not np.allclose([mean, std], wanted, atol=0.5):
        raise ConfigError(
            f"The weights {address} are for RGB images of mean {wanted[0]} and standard deviation "
            f"{wanted[1]}: set INPUT.FORMAT to RGB, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD to these "
            "(LazyConfig: image_format of both mappers, model.pixel_mean, model.pixel_std)."
        )
