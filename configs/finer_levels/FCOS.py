"""Detectron2's FCOS with objects on levels one finer than its own, otherwise as its neighbour in
`configs/peers/`."""

from detectron2.model_zoo import get_config

from scopenet.modeling.own_start import FCOSOnFinerLevels

fcos = get_config("COCO-Detection/fcos_R_50_FPN_1x.py")
dataloader, lr_multiplier, model = fcos.dataloader, fcos.lr_multiplier, fcos.model
optimizer, train = fcos.optimizer, fcos.train
del fcos

model._target_ = FCOSOnFinerLevels
train.output_dir = "./output/finer_levels_FCOS"
