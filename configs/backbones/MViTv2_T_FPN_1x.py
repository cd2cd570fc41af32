"""ScopeNet on MViTv2-T, with Detectron2's settings of it (projects/MViTv2)."""

from detectron2.config import LazyCall as L
from detectron2.modeling import MViT

from scopenet.modeling.builtin_backbones import layer_norm

from .Swin_T_FPN_1x import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.bottom_up = L(MViT)(
    embed_dim=96,
    depth=10,
    num_heads=1,
    last_block_indexes=[0, 2, 7, 9],
    drop_path_rate=0.2,
    norm_layer=L(layer_norm)(eps=1e-6),
    out_features=["scale3", "scale4", "scale5"],
)
model.backbone.in_features = "${.bottom_up.out_features}"
optimizer.weight_decay = 0.1
optimizer.params.overrides = {
    "rel_pos_h": {"weight_decay": 0.0},
    "rel_pos_w": {"weight_decay": 0.0},
}
train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_T_in1k.pyth"
train.output_dir = "./output/MViTv2_T_FPN_1x"
