"""The detectors that are compared: ScopeNet and Detectron2's own, from their stock configs."""

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.dense_detector import DenseDetector, permute_to_N_HWA_K
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from experiments.presets import read_any_config
from scopenet.errors import ConfigError
from scopenet.modeling import ScopeNet
from scopenet.modeling.bins import LOG_VARIANCE_RANGE, bin_log_probs
from scopenet.modeling.folding import fold_frozen_norms
from scopenet.modeling.head import split_bin_logits

STOCK_CONFIGS = {
    "ScopeNet": "ScopeNet_R_50_FPN_1x.yaml",
    "FCOS": "COCO-Detection/fcos_R_50_FPN_1x.py",
    "RetinaNet": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
}
# Peers with what ScopeNet does around its convolutions, which is no part of its method.
TUNED_CONFIGS = {
    "tuned FCOS": STOCK_CONFIGS["FCOS"],
    "tuned FCOS without GN": "peers/FCOS_R_50_FPN_1x_noGN.py",
    "tuned RetinaNet": STOCK_CONFIGS["RetinaNet"],
}
# What the outputs of a trained head look like, (mean, standard deviation) of each of its last
# convolutions. New heads give the same everywhere, which no detector meets in use.
_TRAINED_OUTPUTS = {
    "cls_score": (-4.6, 1.5),
    "bin_score": (0.0, 3.0),
    "border_pred": (0.0, 0.2),
    "bbox_pred": (0.0, 0.3),
    "ctrness": (0.0, 1.0),
}
_FCOS_DISTANCE = (3.0, 1.0)  # strides


@dataclass
class Contestant:
    """A detector with random weights and the outputs of a trained one."""

    name: str
    model: DenseDetector

    def predict(self, inputs: list[dict]) -> tuple[ImageList, list[Tensor], list[list[Tensor]]]:
        """Return the padded batch, the features and the head's raw outputs, as ``model.forward``
        has them."""
        images = self.model.preprocess_image(inputs)
        features = self.model.backbone(images.tensor)
        features = [features[name] for name in self.model.head_in_features]
        return images, features, self.model.head(features)

    def label(self, features, predictions, gt_instances: list[Instances]):
        """Assign locations or anchors to the ground truth."""
        if isinstance(self.model, ScopeNet):
            return self.model.label_locations(predictions, gt_instances)
        return self.model.label_anchors(self.model.anchor_generator(features), gt_instances)

    def scores(self, predictions) -> Tensor:
        """Return the scores of all pairs of location or anchor and class, flat."""
        cls_logits, *others = predictions
        classes = self.model.num_classes
        p_cls = [permute_to_N_HWA_K(x, classes).sigmoid() for x in cls_logits]
        if isinstance(self.model, FCOS):
            centerness = [permute_to_N_HWA_K(x, 1).sigmoid() for x in others[1]]
            scores = [(p * c).sqrt() for p, c in zip(p_cls, centerness, strict=True)]
        elif isinstance(self.model, ScopeNet) and self.model.guided_score:
            p_loc = [self._p_loc(x) for x in others[0]]
            scores = [p * q for p, q in zip(p_cls, p_loc, strict=True)]
        else:
            scores = p_cls
        return torch.cat([x.flatten() for x in scores])

    def _p_loc(self, bin_map: Tensor) -> Tensor:
        channels = permute_to_N_HWA_K(bin_map, bin_map.shape[1]).flatten(0, 1)
        logits, log_variance = split_bin_logits(channels, self.model.num_bins)
        log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE) if self.model.uncertainty else None
        probs = bin_log_probs(logits, log_variance).amax(-1).exp()
        return probs.mean(-1).reshape(len(bin_map), -1, 1)

    @torch.no_grad()
    def imitate_training(self, inputs: list[dict]) -> None:
        """Scale the convolutions whose outputs are the pyramid's levels and the head's predictions
        so that these spread on ``inputs`` as trained ones do."""
        backbone, head = self.model.backbone, self.model.head
        levels = {f"p{i}": getattr(backbone, f"fpn_output{i}", None) for i in (3, 4, 5)}
        levels |= {name: getattr(backbone.top_block, name) for name in ("p6", "p7")}
        for conv in levels.values():
            if conv is not None:  # the simple pyramid ends in normalizations
                self._standardize(conv, 0.0, 1.0, inputs)
        for name, (mean, std) in _TRAINED_OUTPUTS.items():
            if name == "bbox_pred" and isinstance(self.model, FCOS):
                mean, std = _FCOS_DISTANCE
            if hasattr(head, name):
                self._standardize(getattr(head, name), mean, std, inputs)

    def _standardize(self, conv: nn.Conv2d, mean: float, std: float, inputs: list[dict]) -> None:
        """Give every channel of the outputs of ``conv`` on ``inputs`` this mean and deviation."""
        maps: list[Tensor] = []
        handle = conv.register_forward_hook(lambda _, __, x: maps.append(x))
        self.predict(inputs)
        handle.remove()
        values = torch.cat([x.transpose(0, 1).flatten(1) for x in maps], dim=1)  # (channels, .)
        scale = std / values.std(1).clamp(min=1e-6)
        conv.weight *= scale[:, None, None, None]
        conv.bias.copy_(mean + (conv.bias - values.mean(1)) * scale)

    @torch.no_grad()
    def set_candidates(self, inputs: list[dict], share: float, nms_thresh: float) -> None:
        """Set the score threshold so that this share of all (location or anchor, class) pairs of
        ``inputs`` is above it, and the threshold of NMS."""
        scores = self.scores(self.predict(inputs)[2])
        above = max(1, round(share * len(scores)))
        # Between two scores: at one of them, rounding would decide on it.
        self.model.test_score_thresh = scores.topk(above + 1).values[-2:].mean().item()
        self.model.test_nms_thresh = nms_thresh


def tune(model: DenseDetector) -> None:
    """Let a detector of Detectron2 call its convolutions as ScopeNet does: with frozen
    normalization folded into them and, on a CPU, with channels-last activations."""

    def lay_out(_, images: tuple[Tensor]) -> Tensor:
        is_on_cpu = images[0].device.type == "cpu"
        return images[0].contiguous(memory_format=torch.channels_last) if is_on_cpu else images[0]

    fold_frozen_norms(model.backbone)
    model.backbone.register_forward_pre_hook(lay_out)


def build_contestant(name: str, config: str, device: str) -> Contestant:
    """Build a detector with random weights.

    Args:
        name: for tables and legends; one of ``TUNED_CONFIGS`` is tuned.
        config: see :func:`~experiments.presets.read_any_config`.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: there is no such config, or its detector is none of the three.
    """
    config = read_any_config(config)
    torch.manual_seed(0)
    if isinstance(config, CfgNode):
        config.MODEL.DEVICE = device
        model = build_model(config)
    else:
        model = instantiate(config.model).to(device)
    if not isinstance(model, ScopeNet | FCOS | RetinaNet):
        raise ConfigError(f"{name} is a {type(model).__name__}, not ScopeNet, FCOS or RetinaNet.")
    if name in TUNED_CONFIGS:
        tune(model)
    return Contestant(name, model)
