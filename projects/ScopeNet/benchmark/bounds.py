"""What no detector with these layers is faster than: its network alone, and its convolutions."""

from copy import deepcopy

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


@torch.no_grad()
def fold_frozen_norms(module: nn.Module) -> nn.Module:
    """Copy ``module``, with frozen batch normalization made a part of the convolutions."""
    module = deepcopy(module)
    for conv in module.modules():
        if isinstance(conv, Conv2d) and isinstance(conv.norm, FrozenBatchNorm2d):
            norm = conv.norm
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            conv.norm = None
    return module


class RecordConvolutions(TorchDispatchMode):
    """Keeps what every convolution was called with, forward and backward."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in _CONVOLUTIONS:
            self.calls.append((function, args))
        return function(*args, **(kwargs or {}))

    def replay(self) -> None:
        """Compute them all once more, and nothing else."""
        with torch.no_grad():
            for function, args in self.calls:
                function(*args)
