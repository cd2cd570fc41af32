"""Detectron2's FCOS (GN in its towers) in the setting of Trees-ScopeNet_R_50_FPN_GN.yaml."""

from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

fcos = get_config("COCO-Detection/fcos_R_50_FPN_1x.py")
dataloader, model, optimizer, train = fcos.dataloader, fcos.model, fcos.optimizer, fcos.train
del fcos

model.num_classes = 1
dataloader.train.dataset.names = "trees_train"
dataloader.train.mapper.augmentations[0].short_edge_length = 400
dataloader.train.total_batch_size = 4
dataloader.train.num_workers = 0
dataloader.test.dataset.names = "trees_val"
dataloader.test.mapper.augmentations[0].short_edge_length = 400
dataloader.test.num_workers = 0
dataloader.evaluator.output_dir = "${train.output_dir}/inference"
optimizer.lr = 0.005
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1, end_value=0),
    warmup_length=20 / 200,
    warmup_method="linear",
    warmup_factor=0.001,
)
train.max_iter = 200
train.eval_period = 0
train.checkpointer.period = 40
train.seed = 0
train.clip_gradients = dict(enabled=True, clip_type="norm", clip_value=10.0)
train.output_dir = "./output/Trees-FCOS_R_50_FPN"
