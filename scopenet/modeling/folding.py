"""Frozen batch normalization as part of the convolution before it: one pass over the activations
less per layer, in training and in inference."""

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F


class FoldedConv2d(Conv2d):
    """Detectron2's convolution with a ``FrozenBatchNorm2d`` that scales the weights instead of the
    outputs. Parameters, buffers and their names are the same."""

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(self.norm, FrozenBatchNorm2d):  # it was replaced, to be trained
            return super().forward(x)
        weight, bias = self._kept() if self._may_keep() else self._fold()
        x = F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return x if self.activation is None else self.activation(x)

    def _fold(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            bias = bias + self.bias * scale
        return self.weight * scale[:, None, None, None], bias

    def _may_keep(self) -> bool:
        is_recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
        return not (self.training or torch.is_grad_enabled() or is_recorded)

    def _kept(self) -> tuple[Tensor, Tensor]:
        """The folded weights of the last call, made anew when what they come from has changed."""
        sources = [self.weight, *self.norm.buffers()]
        sources += [] if self.bias is None else [self.bias]
        state = [(x.data_ptr(), x._version) for x in sources]
        if getattr(self, "_state", None) != state:
            self._state, self._folded = state, self._fold()
            # Referred to, so that no other tensor comes to lie where they are.
            self._sources = [x.detach() for x in sources]
        return self._folded


def fold_frozen_norms(module: nn.Module) -> None:
    """Make every convolution of ``module`` with a frozen normalization a :class:`FoldedConv2d`."""
    for conv in module.modules():
        if type(conv) is Conv2d and isinstance(conv.norm, FrozenBatchNorm2d):
            conv.__class__ = FoldedConv2d


def fold_for_good(module: nn.Module) -> None:
    """Make every :class:`FoldedConv2d` of ``module`` a convolution without normalization, which
    can no longer be trained as it was."""
    for conv in module.modules():
        if isinstance(conv, FoldedConv2d) and isinstance(conv.norm, FrozenBatchNorm2d):
            weight, bias = conv._fold()
            conv.__class__, conv.norm = Conv2d, None
            conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
