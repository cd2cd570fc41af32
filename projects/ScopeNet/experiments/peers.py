"""Models of LazyConfig files in the setting of a preset: trained as ScopeNet is."""

from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from omegaconf import DictConfig, flag_override

from scopenet.config_file import target_of
from scopenet.engine.trainer import Trainer
from scopenet.errors import ConfigError


def fit_model(model: DictConfig, cfg: CfgNode, preset: CfgNode) -> DictConfig:
    """Give the dense detector ``model`` of a LazyConfig the classes of ``cfg``'s training set, its
    pixel statistics and, where ``preset`` has a backbone, that backbone and its width in the
    towers; return it.

    Raises:
        ConfigError: the model is no dense detector.
    """
    if "head_in_features" not in model:
        raise ConfigError(
            f"{target_of(model).__name__} of a LazyConfig has no head on pyramid levels that a "
            "preset could fit to its data; use a YAML config of it."
        )
    model = model.copy()
    model.num_classes = len(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes)
    model.pixel_mean, model.pixel_std = list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD)
    if not {"BACKBONE", "RESNETS", "FPN"} & preset.get("MODEL", {}).keys():
        return model
    from_p5 = model.backbone.top_block.get("in_feature") == "p5"
    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.NAME = f"build_{'p5' if from_p5 else 'retinanet'}_resnet_fpn_backbone"
    width = cfg.MODEL.FPN.OUT_CHANNELS
    with flag_override(model, "allow_objects", True):
        model.backbone = build_backbone(cfg)
    model.head.input_shape = [ShapeSpec(channels=width)] * len(model.head_in_features)
    if "conv_dims" in model.head:
        model.head.conv_dims = [width] * len(model.head.conv_dims)
    else:
        model.head.conv_dim = width
    return model


def lazy_model_trainer(model: DictConfig, preset: CfgNode) -> type[Trainer]:
    """Make a trainer of ``model`` whose data, schedule and optimizer are those of its config."""

    class ModelTrainer(Trainer):
        @classmethod
        def build_model(cls, cfg):
            return instantiate(fit_model(model, cfg, preset)).to(cfg.MODEL.DEVICE)

    return ModelTrainer
