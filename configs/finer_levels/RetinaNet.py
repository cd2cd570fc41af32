"""Detectron2's RetinaNet with anchors of twice the size, which puts objects on levels one finer,
otherwise as its neighbour in `configs/peers/`."""

from ..peers.RetinaNet_R_50_FPN_own_start import (  # noqa: F401
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.anchor_generator.sizes = [[2 * x for x in sizes] for sizes in model.anchor_generator.sizes]
train.output_dir = "./output/finer_levels_RetinaNet"
