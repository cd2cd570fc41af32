"""Detectron2's FCOS, its loss normalizer started at the positives of the first batch."""

from detectron2.model_zoo import get_config

from scopenet.modeling.own_start import FCOSWithOwnStart

fcos = get_config("COCO-Detection/fcos_R_50_FPN_1x.py")
dataloader, lr_multiplier, model = fcos.dataloader, fcos.lr_multiplier, fcos.model
optimizer, train = fcos.optimizer, fcos.train
del fcos

model._target_ = FCOSWithOwnStart
train.output_dir = "./output/FCOS_R_50_FPN_own_start"
