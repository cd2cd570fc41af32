"""ScopeNet on the plain ViT-B of ViTDet and its simple pyramid (https://arxiv.org/abs/2203.16527),
with Detectron2's settings of it (projects/ViTDet)."""

from detectron2.config import LazyCall as L
from detectron2.modeling import SimpleFeaturePyramid, ViT
from detectron2.modeling.backbone.fpn import LastLevelP6P7

from scopenet.modeling.builtin_backbones import layer_norm, vit_lr_decay

from .Swin_T_FPN_1x import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone = L(SimpleFeaturePyramid)(
    net=L(ViT)(
        img_size=1024,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        norm_layer=L(layer_norm)(eps=1e-6),
        window_size=14,
        window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],  # the others attend to all of the image
        use_rel_pos=True,
        out_feature="last_feat",
    ),
    in_feature="${.net.out_feature}",
    out_channels=256,
    scale_factors=[2.0, 1.0, 0.5],
    top_block=L(LastLevelP6P7)(
        in_channels="${..out_channels}", out_channels="${..out_channels}", in_feature="p5"
    ),
    norm="LN",
    square_pad=0,
)
optimizer.weight_decay = 0.1
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
optimizer.params.lr_factor_func = L(vit_lr_decay)(
    num_layers="${model.backbone.net.depth}", lr_decay_rate=0.7
)
train.init_checkpoint = (
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth?matching_heuristics=True"
)
train.output_dir = "./output/ViTDet_B_1x"
