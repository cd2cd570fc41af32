"""Detectron2's FCOS without normalization in its towers."""

from detectron2.model_zoo import get_config

fcos = get_config("COCO-Detection/fcos_R_50_FPN_1x.py")
dataloader, lr_multiplier, model = fcos.dataloader, fcos.lr_multiplier, fcos.model
optimizer, train = fcos.optimizer, fcos.train
del fcos

model.head.norm = ""
train.output_dir = "./output/FCOS_R_50_FPN_1x_noGN"
