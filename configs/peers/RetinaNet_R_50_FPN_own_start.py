"""Detectron2's RetinaNet, whose loss normalizer starts at the positives of the first batch, not at
100; with GN in its towers and the L1 loss of RetinaNet_R_50_FPN_1x.yaml."""

from detectron2.model_zoo import get_config

from scopenet.modeling.own_start import RetinaNetWithOwnStart

retinanet = get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
dataloader, lr_multiplier, model = retinanet.dataloader, retinanet.lr_multiplier, retinanet.model
optimizer, train = retinanet.optimizer, retinanet.train
del retinanet

model._target_ = RetinaNetWithOwnStart
model.head.norm = "GN"
model.smooth_l1_beta = 0.0
train.output_dir = "./output/RetinaNet_R_50_FPN_own_start"
