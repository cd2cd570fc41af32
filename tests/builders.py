"""What many tests need: small models, raw outputs that are no near-ties, and ground truth."""

from pathlib import Path

import reference
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from detectron2.structures import Boxes, Instances
from miniature import mini_overrides
from torch import Tensor, nn
from torch.nn import functional as F

from scopenet import ScopeHead, ScopeNet, add_scopenet_config, load_config

STRIDES = (8, 16, 32, 64, 128)  # px, p3 to p7


class PooledPyramid(Backbone):
    """A pyramid without weights: the level of stride s is the image averaged over s x s pixels."""

    def __init__(self, strides, channels: int = 3):
        super().__init__()
        self.strides = {f"p{i}": stride for i, stride in enumerate(strides, start=3)}
        self.channels = channels

    @property
    def size_divisibility(self) -> int:
        return max(self.strides.values())

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=self.channels, stride=stride)
            for name, stride in self.strides.items()
        }

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {name: F.avg_pool2d(image, stride) for name, stride in self.strides.items()}


def build_scopenet(strides=STRIDES, *, seed: int = 0, num_classes: int = 3, **options) -> ScopeNet:
    """A ScopeNet on a ``PooledPyramid``, for tests of what comes behind the backbone.

    Args:
        options: arguments of ``ScopeNet`` and of ``ScopeHead``, for instance ``num_bins=1``.
    """
    torch.manual_seed(seed)
    head_options = {
        name: options.pop(name)
        for name in ("num_convs", "conv_dim", "norm", "prior_prob")
        if name in options
    }
    backbone = PooledPyramid(strides)
    head = ScopeHead(
        input_shape=list(backbone.output_shape().values()),
        num_classes=num_classes,
        num_bins=options.get("num_bins", 5),
        **{"num_convs": 1, "conv_dim": 8} | head_options,
    )
    options.setdefault("level_boundaries", [8 * stride for stride in strides[:-1]])
    return ScopeNet(
        backbone=backbone,
        head=head,
        num_classes=num_classes,
        pixel_mean=[128.0] * 3,
        pixel_std=[64.0] * 3,
        **options,
    )


def small_config(*overrides) -> CfgNode:
    """Config of a ScopeNet on ResNet-18 with 32 channels and three classes.

    Args:
        overrides: KEY, value, KEY, value, ...
    """
    cfg = get_cfg()
    add_scopenet_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "ScopeNet"
    cfg.MODEL.PIXEL_STD = [57.375, 57.120, 58.395]
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.SCOPENET.NUM_CLASSES = 3
    cfg.MODEL.SCOPENET.CONV_DIM = 32
    cfg.MODEL.SCOPENET.NUM_CONVS = 1
    cfg.merge_from_list(list(overrides))
    return cfg


def write_checkpoint(path: Path, model: nn.Module, config: str, **more) -> Path:
    """As the trainer writes it, with an optimizer that is larger than the model.

    Args:
        config: as YAML.
        more: entries in place of those below.
    """
    content = {
        "model": model.state_dict(),
        "trainer": {"optimizer": torch.rand(2 * sum(x.numel() for x in model.parameters()))},
        "iteration": 1,
        "config": config,
        "class_names": ["red", "green", "blue"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content | more, path)
    return path


@torch.no_grad()
def spread_out_head(model: ScopeNet, batched_inputs: list[dict], seed: int = 0) -> None:
    """Give the head weights for which its outputs on these inputs are far apart.

    The outputs of a new head are nearly equal everywhere: all scores are ties and all softmaxes
    flat, so that comparisons of detections would hold, or fail, by accident.
    """
    generator = torch.Generator().manual_seed(seed)
    head = model.head
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5, generator=generator)
    targets = ((head.cls_score, 1.5), (head.bin_score, 1.0), (head.border_pred, 0.5))
    predictions = model.predict(batched_inputs)[2]
    for (conv, std), maps in zip(targets, predictions, strict=True):
        values = torch.cat([(x - conv.bias[:, None, None]).flatten() for x in maps])
        conv.weight *= std / values.std()
    nn.init.constant_(head.cls_score.bias, -2.0)


def write_detector(weights: Path, *overrides: str) -> CfgNode:
    """Save a small R-50 detector that finds something, of a data set that is not registered and of
    images in RGB; return its config."""
    absent = ["DATASETS.TRAIN", "('absent',)", "DATASETS.TEST", "('absent',)"]
    overrides = (*absent, "INPUT.FORMAT", "RGB", *overrides)
    cfg = load_config("ScopeNet_R_50_FPN_1x.yaml", mini_overrides(weights.parent, *overrides))
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    spread_out_head(model, [{"image": torch.randint(256, (3, 64, 96))}])
    write_checkpoint(weights, model, cfg.dump())
    return cfg


def write_training(folder: Path, *overrides: str) -> None:
    """Leave in a folder what a training of :func:`write_detector` would."""
    cfg = write_detector(folder / "model_final.pth", *overrides)
    (folder / "config.yaml").write_text(cfg.dump())


def map_sizes(model: ScopeNet, height: int, width: int) -> list[tuple[int, int]]:
    """(H, W) of each level for a padded batch of this size in px."""
    return [(-(-height // stride), -(-width // stride)) for stride in model.strides]


def random_predictions(
    model: ScopeNet,
    sizes: list[tuple[int, int]],
    num_images: int = 1,
    seed: int = 0,
    outliers: float = 0.03,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Raw head outputs, spread out.

    Args:
        outliers: share of bin logits, deltas and log sigma^2 that are ten times as large, so that
            some are beyond their clamps.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(channels, mean, std, outliers):
        maps = []
        for size in sizes:
            x = torch.randn(num_images, channels, *size, generator=generator) * std
            is_outlier = torch.rand(x.shape, generator=generator) < outliers
            maps.append(mean + torch.where(is_outlier, 10 * x, x))
        return maps

    return (
        # No outliers here: two scores that round to 1 would have no order.
        draw(model.num_classes, mean=-2.0, std=1.5, outliers=0.0),
        draw(4 * (model.num_bins + 1), mean=0.0, std=1.5, outliers=outliers),
        draw(4 * model.num_bins, mean=0.0, std=0.7, outliers=outliers),
    )


def random_boxes(num_boxes: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Boxes (num_boxes, 4), XYXY px: centres in the image, sides from 4 px to twice the image."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    centers = torch.rand(num_boxes, 2, generator=generator) * size
    sides = 4 * (size / 2) ** torch.rand(num_boxes, 2, generator=generator)
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=1)


def ground_truth(boxes, classes, image_size: tuple[int, int] = (128, 128)) -> Instances:
    """Instances of one image as the data loader gives them; no boxes is an empty list."""
    return Instances(
        image_size,
        gt_boxes=Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        gt_classes=torch.as_tensor(classes, dtype=torch.int64),
    )


def random_ground_truth(
    num_boxes: int, num_classes: int, height: int, width: int, seed: int = 0
) -> Instances:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(num_classes, (num_boxes,), generator=generator)
    return ground_truth(random_boxes(num_boxes, height, width, seed), classes, (height, width))


def reference_settings(model: ScopeNet, bin_size: float = 1.0) -> reference.Settings:
    """What the reference implementation needs to know of a model (which keeps no bin size)."""
    return reference.Settings(
        num_classes=model.num_classes,
        strides=tuple(model.strides),
        num_bins=model.num_bins,
        bin_size=bin_size,
        level_boundaries=tuple(high for _, high in model.level_ranges[:-1]),
        uncertainty=model.uncertainty,
        guided_score=model.guided_score,
        decoding=model.decoding,
        center_radius_cls=model.center_radius_cls,
        center_radius_loc=model.center_radius_loc,
        focal_loss_alpha=model.focal_loss_alpha,
        focal_loss_gamma=model.focal_loss_gamma,
        bin_loss_weight=model.bin_loss_weight,
        loc_loss_weight=model.loc_loss_weight,
        loc_loss_type=model.loc_loss_type,
        score_thresh=model.test_score_thresh,
        topk_candidates=model.test_topk_candidates,
        nms_thresh=model.test_nms_thresh,
        detections_per_image=model.max_detections_per_image,
    )
