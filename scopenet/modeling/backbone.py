"""The pyramid of table 4's "custom FPN": p6 and p7 start from p5 instead of res5."""

from collections.abc import Sequence

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7


def p5_fpn(
    bottom_up: Backbone,
    in_features: Sequence[str] = ("res3", "res4", "res5"),
    out_channels: int = 256,
    norm: str = "",
    fuse_type: str = "sum",
) -> FPN:
    """Build a pyramid p3 to p7 on a backbone; for the arguments see Detectron2's ``FPN``."""
    top_block = LastLevelP6P7(out_channels, out_channels, in_feature="p5")
    return FPN(bottom_up, in_features, out_channels, norm, top_block, fuse_type)


@BACKBONE_REGISTRY.register()
def build_p5_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """Build ``build_retinanet_resnet_fpn_backbone`` with p6 taken from p5, as in FCOS."""
    fpn = cfg.MODEL.FPN
    bottom_up = build_resnet_backbone(cfg, input_shape)
    return p5_fpn(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, fpn.FUSE_TYPE)
