"""The Scope Head (figure 2): two towers, and on them classes, bins and border deltas."""

import math
from functools import partial

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, get_norm
from torch import Tensor, nn

NORMS = ("", "GN", "LN")  # those that look at one level at a time


def head_conv(
    in_channels: int, out_channels: int, kernel_size: int = 3, std: float = 0.01
) -> nn.Conv2d:
    """Make a convolution of the head with its start, N(0, std) and biases 0."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(conv.weight, std=std)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has one
    return conv


def separable3x3(in_channels: int, out_channels: int, normalized: bool) -> nn.Sequential:
    """Make a 3x3 convolution of each channel by itself, and one of 1x1 over all of them.

    In front of a normalization, where the longer a filter is, the more slowly it learns, their
    filters start as long as those of :func:`head_conv`; elsewhere what they give is as large.
    """
    each = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
    nn.init.normal_(each.weight, std=0.01 * math.sqrt(in_channels) if normalized else 1 / 3)
    return nn.Sequential(each, head_conv(in_channels, out_channels, 1, std=0.03))


def tower(
    in_channels: int, num_convs: int, channels: int, norm: str, separable: bool
) -> nn.Sequential:
    """Stack ``num_convs`` times 3x3 convolution, normalization if any, ReLU."""
    conv = partial(separable3x3, normalized=bool(norm)) if separable else head_conv
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        layers.append(conv(in_channels, channels))
        if norm:
            layers.append(get_norm(norm, channels))
        layers.append(nn.ReLU(inplace=True))
        in_channels = channels
    return nn.Sequential(*layers)


class ScopeHead(nn.Module):
    """Predicts raw classes, bins and deltas for every location; all levels share the weights."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        num_classes: int,
        num_bins: int = 5,
        num_convs: int = 4,
        conv_dim: int = 256,
        norm: str = "",
        separable: bool = False,
        prior_prob: float = 0.01,
    ):
        """
        Args:
            input_shape: shape of each level's features; all must have the same channels.
            num_classes, num_bins: C and N.
            num_convs, conv_dim: number and channels of the convolutions of each tower.
            norm: normalization after the towers' convolutions, e.g. "GN" (table 4), "" for none.
            separable: the towers' convolutions are depthwise and then 1x1, the last ones 1x1, as in
                RTMDet (https://arxiv.org/abs/2212.07784): a ninth of the work.
            prior_prob: the initial class probability of every location.

        Raises:
            ValueError: levels with different channels, or an argument out of its range.
        """
        super().__init__()
        channels = {shape.channels for shape in input_shape}
        if len(channels) != 1:
            raise ValueError(f"the levels must have equal channels, not {sorted(channels)}")
        if norm not in NORMS:
            raise ValueError(
                f'NORM "{norm}" is none of {NORMS}; BN would mix statistics of the levels'
            )
        if num_convs < 0 or conv_dim < 1 or num_classes < 1:
            values = f"{num_convs}, {conv_dim} and {num_classes}"
            raise ValueError(f"NUM_CONVS, CONV_DIM and NUM_CLASSES are counts, got {values}")
        if not 0 < prior_prob < 1:
            raise ValueError(f"PRIOR_PROB must be between 0 and 1, got {prior_prob}")
        (in_channels,) = channels
        self.num_levels = len(input_shape)
        self.cls_subnet = tower(in_channels, num_convs, conv_dim, norm, separable)
        self.loc_subnet = tower(in_channels, num_convs, conv_dim, norm, separable)
        tower_channels = conv_dim if num_convs else in_channels
        kernel_size = 1 if separable else 3
        self.cls_score = head_conv(tower_channels, num_classes, kernel_size)
        self.bin_score = head_conv(tower_channels, 4 * (num_bins + 1), kernel_size)
        self.border_pred = head_conv(tower_channels, 4 * num_bins, kernel_size)
        if separable and norm and num_convs:
            # A 3x3 convolution sums the gradient over nine locations. Where features are sqrt(9)
            # times as large, a 1x1 one learns as fast.
            for subnet in (self.cls_subnet, self.loc_subnet):
                nn.init.constant_(subnet[-2].weight, 3.0)  # type: ignore[arg-type]  # a norm
        prior_logit = -math.log((1 - prior_prob) / prior_prob)
        nn.init.constant_(self.cls_score.bias, prior_logit)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]):
        scopenet = cfg.MODEL.SCOPENET
        return {
            "input_shape": input_shape,
            "num_classes": scopenet.NUM_CLASSES,
            "num_bins": scopenet.NUM_BINS,
            "num_convs": scopenet.NUM_CONVS,
            "conv_dim": scopenet.CONV_DIM,
            "norm": scopenet.NORM,
            "separable": scopenet.SEPARABLE,
            "prior_prob": scopenet.PRIOR_PROB,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """
        Args:
            features: L maps (B, channels, H, W), highest resolution first.

        Returns:
            three lists of L maps: class logits (B, C, H, W); bin logits (B, 4 (N+1), H, W), channel
            x (N+1) + n for bin n of direction x and n = N for its log sigma^2; border deltas t
            (B, 4 N, H, W), channel x N + n.

        Raises:
            ValueError: not L features.
        """
        if len(features) != self.num_levels:
            raise ValueError(f"expected {self.num_levels} feature levels, got {len(features)}")
        cls_logits, bin_logits, border_deltas = [], [], []
        for feature in features:
            loc_feature = self.loc_subnet(feature)
            cls_logits.append(self.cls_score(self.cls_subnet(feature)))
            bin_logits.append(self.bin_score(loc_feature))
            border_deltas.append(self.border_pred(loc_feature))
        return cls_logits, bin_logits, border_deltas


def split_bin_logits(bin_logits: Tensor, num_bins: int) -> tuple[Tensor, Tensor]:
    """Split channels (P, 4 (N+1)) of locations into bin logits (P, 4, N), log sigma^2 (P, 4)."""
    per_direction = torch.unflatten(bin_logits, 1, (4, num_bins + 1))
    return per_direction[..., :num_bins], per_direction[..., num_bins]
