"""ScopeNet on Swin-T (https://arxiv.org/abs/2103.14030), with the optimizer of its authors."""

from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.modeling import SwinTransformer

from scopenet.errors import import_extra

from ..ScopeNet_R_50_FPN_1x import dataloader, lr_multiplier, model, train  # noqa: F401

import_extra("timm", "timm")  # from which Detectron2 takes layers of transformers
constants = get_config("common/data/constants.py").constants
model.pixel_mean, model.pixel_std = constants.imagenet_rgb256_mean, constants.imagenet_rgb256_std
del constants
dataloader.train.mapper.image_format = "RGB"
optimizer = get_config("common/optim.py").AdamW
optimizer.weight_decay = 0.05
optimizer.params.overrides = {"relative_position_bias_table": {"weight_decay": 0.0}}

model.backbone.bottom_up = L(SwinTransformer)(
    embed_dim=96,
    depths=[2, 2, 6, 2],
    num_heads=[3, 6, 12, 24],
    window_size=7,
    drop_path_rate=0.2,
    out_indices=[1, 2, 3],
)
model.backbone.in_features = ["p1", "p2", "p3"]
model.backbone.top_block.in_channels = "${..out_channels}"
model.backbone.top_block.in_feature = "p5"
model.backbone.square_pad = 0
train.init_checkpoint = (
    "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
    "swin_tiny_patch4_window7_224.pth?matching_heuristics=True"
)
train.output_dir = "./output/Swin_T_FPN_1x"
