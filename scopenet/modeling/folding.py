"""Frozen batch normalization as part of the convolution before it: one pass over the activations
less per layer, in training and in inference."""

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F


class FoldedConv2d(Conv2d):
    """Scales its weights as the ``FrozenBatchNorm2d`` of Detectron2's convolution would its
    outputs. Parameters, buffers and their names are the same."""

    # In inference: what the last weights were folded from, and they; no part of a checkpoint.
    _kept: tuple[list, list[Tensor], tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(self.norm, FrozenBatchNorm2d):  # it was replaced, to be trained
            return super().forward(x)
        weight, bias = self._folded()
        x = F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return x if self.activation is None else self.activation(x)

    def fold(self) -> tuple[Tensor, Tensor]:
        """Return weights and bias of a convolution without normalization that gives the same."""
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            bias = bias + self.bias * scale
        return self.weight * scale[:, None, None, None], bias

    def train(self, mode: bool = True):
        self._kept = None
        return super().train(mode)

    def _folded(self) -> tuple[Tensor, Tensor]:
        is_recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
        # A fused optimizer changes weights without a trace in their versions: what it trains is
        # forgotten with every forward pass that has gradients.
        if self.training or torch.is_grad_enabled() or is_recorded:
            self._kept = None
            return self.fold()
        sources = [self.weight, *self.norm.buffers(), *([] if self.bias is None else [self.bias])]
        try:
            state = [(x.data_ptr(), x._version) for x in sources]
        except RuntimeError:  # inference tensors and those of torch.func have neither
            return self.fold()
        if self._kept is None or self._kept[0] != state:
            # The sources are held, so that no other tensor comes to lie where they are.
            self._kept = state, [x.detach() for x in sources], self.fold()
        return self._kept[-1]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kept": None}


def frozen_norm(module: nn.Module) -> nn.Module:
    """Return the frozen form of a batch normalization, and any other module as it is. Detectron2's
    own converter drops the activation that timm's have in them."""
    if not isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        return module
    if not hasattr(module, "act"):
        return FrozenBatchNorm2d.convert_frozen_batchnorm(module)
    from timm.layers.norm_act import freeze_batch_norm_2d

    return freeze_batch_norm_2d(module)


def fold_frozen_norms(module: nn.Module) -> None:
    """Put a :class:`FoldedConv2d` of the same parameters in place of every convolution of
    ``module`` with a frozen normalization."""
    for parent in [*module.modules()]:
        for name, conv in parent.named_children():
            if type(conv) is Conv2d and isinstance(conv.norm, FrozenBatchNorm2d):
                folded = FoldedConv2d.__new__(FoldedConv2d)
                folded.__dict__.update(conv.__dict__)
                setattr(parent, name, folded)


def fold_for_good(module: nn.Module) -> None:
    """Let every :class:`FoldedConv2d` of ``module`` take its normalization into its weights, which
    can then no longer be trained as they were."""
    for conv in module.modules():
        if isinstance(conv, FoldedConv2d) and isinstance(conv.norm, FrozenBatchNorm2d):
            weight, bias = conv.fold()
            conv.weight, conv.bias, conv.norm = nn.Parameter(weight), nn.Parameter(bias), None
