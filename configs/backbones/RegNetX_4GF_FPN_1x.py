"""ScopeNet on RegNetX-4GF, as Detectron2 has it in mask_rcnn_regnetx_4gf_dds_fpn_1x.py."""

from detectron2.config import LazyCall as L

from scopenet.modeling.builtin_backbones import regnet

from ..ScopeNet_R_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.bottom_up = L(regnet)(
    stem_width=32,
    depth=23,
    w_a=38.65,
    w_0=96,
    w_m=2.43,
    group_width=40,
    freeze_at=2,
    norm="FrozenBN",
    out_features=["s2", "s3", "s4"],
)
model.backbone.in_features = "${.bottom_up.out_features}"
model.backbone.top_block.in_channels = "${..out_channels}"
model.backbone.top_block.in_feature = "p5"
model.pixel_std = [57.375, 57.120, 58.395]
optimizer.weight_decay = 5e-5
train.init_checkpoint = (
    "https://dl.fbaipublicfiles.com/pycls/dds_baselines/160906383/RegNetX-4.0GF_dds_8gpu.pyth"
)
train.output_dir = "./output/RegNetX_4GF_FPN_1x"
