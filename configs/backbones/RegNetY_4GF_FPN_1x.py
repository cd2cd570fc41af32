"""ScopeNet on RegNetY-4GF, as Detectron2 has it in mask_rcnn_regnety_4gf_dds_fpn_1x.py."""

from .RegNetX_4GF_FPN_1x import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.bottom_up.update(depth=22, w_a=31.41, w_m=2.24, group_width=64, se_ratio=0.25)
train.init_checkpoint = (
    "https://dl.fbaipublicfiles.com/pycls/dds_baselines/160906838/RegNetY-4.0GF_dds_8gpu.pyth"
)
train.output_dir = "./output/RegNetY_4GF_FPN_1x"
