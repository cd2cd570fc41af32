"""The network, its losses and its decoding."""

from .backbone import build_p5_resnet_fpn_backbone
from .head import ScopeHead
from .meta_arch import ScopeNet
from .test_time_augmentation import ScopeNetWithTTA
from .timm_backbone import timm_fpn

__all__ = ["ScopeHead", "ScopeNet", "ScopeNetWithTTA", "build_p5_resnet_fpn_backbone", "timm_fpn"]
