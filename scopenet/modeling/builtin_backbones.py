"""What the LazyConfigs of Detectron2's own backbones call where Detectron2's files hold classes and
functions: plain YAML, as which configs are published and exported, has neither."""

from collections.abc import Callable
from functools import partial

from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem
from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
from torch import nn


def regnet(**options) -> RegNet:
    """Build a RegNet of residual bottlenecks."""
    return RegNet(stem_class=SimpleStem, block_class=ResBottleneckBlock, **options)


def layer_norm(eps: float) -> Callable[[int], nn.LayerNorm]:
    """Return ``nn.LayerNorm`` as a function of the number of channels."""
    return partial(nn.LayerNorm, eps=eps)


def vit_lr_decay(**options) -> Callable[[str], float]:
    """Return ``get_vit_lr_decay_rate`` as a function of a parameter's name."""
    return partial(get_vit_lr_decay_rate, **options)
