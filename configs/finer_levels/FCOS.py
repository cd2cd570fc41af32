"""Detectron2's FCOS with objects on levels one finer than its own, otherwise as its neighbour in
`configs/peers/`."""

from scopenet.modeling.own_start import FCOSOnFinerLevels

from ..peers.FCOS_R_50_FPN_own_start import (  # noqa: F401
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model._target_ = FCOSOnFinerLevels
train.output_dir = "./output/finer_levels_FCOS"
