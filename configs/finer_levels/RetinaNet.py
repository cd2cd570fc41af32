"""Detectron2's RetinaNet with anchors of twice the size, which puts objects on levels one finer,
otherwise as its neighbour in `configs/peers/`."""

from detectron2.model_zoo import get_config

from scopenet.modeling.own_start import RetinaNetWithOwnStart

retinanet = get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
dataloader, lr_multiplier, model = retinanet.dataloader, retinanet.lr_multiplier, retinanet.model
optimizer, train = retinanet.optimizer, retinanet.train
del retinanet

model._target_ = RetinaNetWithOwnStart
model.head.norm = "GN"
model.smooth_l1_beta = 0.0
model.anchor_generator.sizes = [[2 * x for x in sizes] for sizes in model.anchor_generator.sizes]
train.output_dir = "./output/finer_levels_RetinaNet"
