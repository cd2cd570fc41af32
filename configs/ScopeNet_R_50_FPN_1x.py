"""The model of ScopeNet_R_50_FPN_1x.yaml as a LazyConfig, for the same train_net.py."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config

from scopenet import ScopeHead, ScopeNet

dataloader = get_config("common/data/coco.py").dataloader
optimizer = get_config("common/optim.py").SGD
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_1x
train = get_config("common/train.py").train
retinanet = get_config("common/models/retinanet.py").model

dataloader.train.mapper.use_instance_mask = False
dataloader.train.mapper.augmentations[0].short_edge_length = 800
dataloader.evaluator.output_dir = "${train.output_dir}/inference"
optimizer.lr = 0.01
train.output_dir = "./output/ScopeNet_R_50_FPN_1x_lazy"
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.seed = -1
train.clip_gradients = dict(enabled=True, clip_type="norm", clip_value=10.0)
train.max_skipped_iterations = 10
train.accumulation = 1
train.early_stopping = 0
train.freeze = []
train.trackers = []
train.ema = dict(enabled=False, decay=0.999)
# Test-time augmentation, as TEST.AUG of a YAML config.
train.test_aug = dict(
    enabled=False,
    min_sizes=[400, 500, 600, 700, 800, 900, 1000, 1100, 1200],
    max_size=4000,
    flip=True,
)

model = L(ScopeNet)(
    backbone=retinanet.backbone,
    head=L(ScopeHead)(
        input_shape=[ShapeSpec(channels=256)] * 5,
        num_classes="${..num_classes}",
        num_bins="${..num_bins}",
        norm="",
    ),
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    num_classes=80,
    num_bins=5,
    pixel_mean=retinanet.pixel_mean,
    pixel_std=retinanet.pixel_std,
)
model.backbone.bottom_up.freeze_at = 2
del retinanet
