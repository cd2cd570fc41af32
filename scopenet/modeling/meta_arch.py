"""The meta architecture: backbone with FPN, Scope Head, losses and detections."""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from ..errors import ConfigError
from . import bins
from .assignment import Positives, assign_locations, border_distances
from .border_errors import START
from .detection import detect
from .folding import fold_frozen_norms
from .head import ScopeHead, split_bin_logits
from .joint_batch import JointBatch, largest_size, pad_first, padded_maps, padding_of
from .losses import (
    LOC_LOSS_TYPES,
    bin_loss,
    focal_loss,
    localization_loss,
    mean_over_workers,
)
from .metrics import localization_metrics, log_metrics
from .postprocess import rescale_detections

Predictions = tuple[list[Tensor], list[Tensor], list[Tensor]]
FIXED_POINT = 2**32  # the one of the anchors' start; a power of two, so that nothing is rounded


@META_ARCH_REGISTRY.register()
class ScopeNet(DenseDetector):
    """Finds every border of a box by choosing a bin of distances and then a position relative to
    the bin's learned anchor (https://arxiv.org/abs/2005.04854)."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        num_classes: int,
        num_bins: int = 5,
        bin_size: float = 1.0,
        level_boundaries: Sequence[float] = (64, 128, 256, 512),
        uncertainty: bool = True,
        guided_score: bool = True,
        decoding: str = "best_bin",
        border_errors: bool = False,
        center_radius_cls: float = 1.5,
        center_radius_loc: float = 2.0,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        bin_loss_weight: float = 0.5,
        loc_loss_weight: float = 1.0,
        loc_loss_type: str = "iou",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """
        Args:
            backbone, head: the pyramid, and a :class:`ScopeHead` for the same classes and bins.
            head_in_features: names of the pyramid levels, highest resolution first; all by default.
            num_classes, num_bins: C, and N (1 is direct regression).
            bin_size: log2 of the ratio of neighbouring bin edges.
            level_boundaries: the L - 1 finite ends of the levels' regression ranges, px, ascending.
            uncertainty: soften the bin probabilities by the predicted sigma^2 (equation 2).
            guided_score: score by p_cls p_loc (equation 3) instead of p_cls, at inference only.
            decoding: one of :data:`~scopenet.modeling.bins.DECODINGS`.
            border_errors: learn how far off borders may be, and score them by it; see
                :mod:`scopenet.modeling.border_errors`.
            center_radius_cls, center_radius_loc: in strides, how near to the centre of its box a
                positive of the two branches is; the first at most the second.
            focal_loss_*, loc_loss_type: see :mod:`scopenet.modeling.losses`.
            bin_loss_weight, loc_loss_weight: the two lambdas of equation 4.
            test_*, max_detections_per_image: see :mod:`scopenet.modeling.detection`.

        Raises:
            ValueError: an argument out of its range.
        """
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        fold_frozen_norms(backbone)
        radii = center_radius_cls, center_radius_loc
        if not 0 < center_radius_cls <= center_radius_loc:
            raise ValueError(f"need 0 < CENTER_RADIUS_CLS <= CENTER_RADIUS_LOC, got {radii}")
        if loc_loss_type not in LOC_LOSS_TYPES:
            raise ValueError(f'LOC_LOSS_TYPE "{loc_loss_type}" is none of {LOC_LOSS_TYPES}')
        if decoding not in bins.DECODINGS:
            raise ValueError(f'DECODING "{decoding}" is none of {bins.DECODINGS}')
        if not 0 <= test_score_thresh < 1:
            raise ValueError(f"SCORE_THRESH_TEST must be in [0, 1), got {test_score_thresh}")
        self.num_classes, self.num_bins = num_classes, num_bins
        self.uncertainty, self.guided_score = uncertainty, guided_score
        self.decoding = decoding
        self.center_radius_cls, self.center_radius_loc = radii
        self.focal_loss_alpha, self.focal_loss_gamma = focal_loss_alpha, focal_loss_gamma
        self.bin_loss_weight, self.loc_loss_weight = bin_loss_weight, loc_loss_weight
        self.loc_loss_type = loc_loss_type
        self.test_score_thresh, self.test_nms_thresh = test_score_thresh, test_nms_thresh
        self.test_topk_candidates = test_topk_candidates
        self.max_detections_per_image = max_detections_per_image

        shapes = backbone.output_shape()
        self.strides = [shapes[name].stride for name in self.head_in_features]
        if self.strides != sorted(self.strides):
            raise ValueError(f"IN_FEATURES must go from high to low resolution: {head_in_features}")
        edges = bins.bin_edges(level_boundaries, self.strides, num_bins, bin_size)  # (L, N+1) px
        start = bins.anchor_start(edges, bin_size)  # (L, N) log2 px
        # What labels are made of stays in the processor's memory, as they are made there.
        self.bin_edges, self.level_ranges = edges, bins.level_ranges(level_boundaries)
        # In integers, which stay exact when a model is converted to bfloat16.
        self.register_buffer("fixed_point_start", (start * FIXED_POINT).long(), persistent=False)
        self.error_weights = nn.Parameter(torch.tensor(START)) if border_errors else None
        # Learned as an offset, so that weight decay pulls towards the start and not to 1 px.
        self.log2_anchor_offset = nn.Parameter(torch.zeros_like(start))

    @classmethod
    def from_config(cls, cfg):
        scopenet = cfg.MODEL.SCOPENET
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "num_classes": scopenet.NUM_CLASSES,
            "num_bins": scopenet.NUM_BINS,
            "bin_size": scopenet.BIN_SIZE,
            "level_boundaries": scopenet.LEVEL_BOUNDARIES,
            "uncertainty": scopenet.UNCERTAINTY,
            "guided_score": scopenet.GUIDED_SCORE,
            "decoding": scopenet.DECODING,
            "border_errors": scopenet.BORDER_ERRORS,
            "center_radius_cls": scopenet.CENTER_RADIUS_CLS,
            "center_radius_loc": scopenet.CENTER_RADIUS_LOC,
            "focal_loss_alpha": scopenet.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": scopenet.FOCAL_LOSS_GAMMA,
            "bin_loss_weight": scopenet.BIN_LOSS_WEIGHT,
            "loc_loss_weight": scopenet.LOC_LOSS_WEIGHT,
            "loc_loss_type": scopenet.LOC_LOSS_TYPE,
            "backbone": backbone,
            "head": ScopeHead(cfg, [shapes[name] for name in scopenet.IN_FEATURES]),
            "head_in_features": scopenet.IN_FEATURES,
            "test_score_thresh": scopenet.SCORE_THRESH_TEST,
            "test_topk_candidates": scopenet.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": scopenet.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def log2_anchor_start(self) -> Tensor:
        """Where the anchors start, (L, N) float32 log2 px."""
        return self.fixed_point_start.float() / FIXED_POINT

    @property
    def log2_anchors(self) -> Tensor:
        """The learned anchors a of equation 1, (L, N) log2 px."""
        return self.log2_anchor_start + self.log2_anchor_offset

    @property
    def detection_options(self) -> dict:
        """The fixed options of :func:`~scopenet.modeling.detection.detect`."""
        return {
            "uncertainty": self.uncertainty,
            "decoding": self.decoding,
            "guided_score": self.guided_score,
            "score_thresh": self.test_score_thresh,
            "topk_candidates": self.test_topk_candidates,
            "nms_thresh": self.test_nms_thresh,
            "max_detections": self.max_detections_per_image,
        }

    def forward(
        self, batched_inputs: list[dict], joint: JointBatch | None = None
    ) -> dict[str, Tensor] | list[dict]:
        """See ``DenseDetector.forward``; the fields of the detections are described in
        :meth:`forward_inference`, their frame is the "height" and "width" of each input.

        In training, the losses of inputs that are a part of a ``joint`` batch, see
        :meth:`joint_batch`, are their share of its losses.
        """
        images, features, predictions = self.predict(batched_inputs, joint)
        if self.training:
            gt_instances = [x["instances"] for x in batched_inputs]
            return self.forward_training(images, features, predictions, gt_instances, joint)
        results = self.forward_inference(images, features, predictions)
        for i, (x, size) in enumerate(zip(batched_inputs, images.image_sizes, strict=True)):
            height, width = x.get("height", size[0]), x.get("width", size[1])
            results[i] = rescale_detections(results[i], height, width)
        return [{"instances": x} for x in results]

    @torch.no_grad()
    def joint_batch(self, batched_inputs: list[dict]) -> JointBatch:
        """Say of a labelled batch what :meth:`forward` in training has to know of it where it gets
        it in parts; to be called by all workers alike."""
        size = largest_size(batched_inputs)
        maps = padded_maps(size, padding_of(self.backbone), self.strides)
        counts = self.label_locations((maps,), [x["instances"] for x in batched_inputs]).counts()
        num_positives = mean_over_workers(counts.to(self.device, non_blocking=True))
        return JointBatch(*size, num_positives)

    def preprocess_image(
        self, batched_inputs: list[dict], joint: JointBatch | None = None
    ) -> ImageList:
        """See ``DenseDetector.preprocess_image``; a GPU is not waited for. On a CPU the channels
        lie next to each other, which spares its convolutions the reordering of activations."""
        padding = padding_of(self.backbone)
        square = padding["square_size"]
        if square and max(size := largest_size(batched_inputs)) > square:
            raise ConfigError(
                f"Images of up to {size[1]} x {size[0]} px do not fit model.backbone.square_pad, "
                f"{square}: resize them to less, or pad them to more."
            )
        moved = (x["image"].to(self.device, non_blocking=True) for x in batched_inputs)
        images = ImageList.from_tensors(
            pad_first([(x - self.pixel_mean) / self.pixel_std for x in moved], joint),
            padding_constraints=padding,
        )
        if self.device.type == "cpu":
            images.tensor = images.tensor.contiguous(memory_format=torch.channels_last)
        return images

    def predict(
        self, batched_inputs: list[dict], joint: JointBatch | None = None
    ) -> tuple[ImageList, list[Tensor], Predictions]:
        """Return the padded batch, its features and the head's raw outputs."""
        images = self.preprocess_image(batched_inputs, joint)
        features = self.backbone(images.tensor)
        features = [features[name] for name in self.head_in_features]
        return images, features, self.head(features)

    def forward_training(
        self, images, features, predictions, gt_instances, joint: JointBatch | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted "loss_cls", "loss_bin" and "loss_loc" (equation 4) and, where errors
        are learned, "loss_error"."""
        positives = self.label_locations(predictions, gt_instances)
        counts = positives.counts()
        if joint is not None:
            num_positives = joint.num_positives
        else:
            num_positives = mean_over_workers(counts.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, enabled=False):
            losses, metrics = self.losses(predictions, gt_instances, positives, num_positives)
        if has_event_storage():
            log_metrics(metrics)
            num_cls, num_loc = (counts / len(gt_instances)).tolist()
            get_event_storage().put_scalars(
                positives_cls_per_image=num_cls, positives_loc_per_image=num_loc
            )
        return losses

    @torch.no_grad()
    def validation_losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Return the losses of a labelled batch in the current mode, divided by this worker's own
        positives; nothing is logged or exchanged with other workers."""
        _, _, predictions = self.predict(batched_inputs)
        gt_instances = [x["instances"] for x in batched_inputs]
        positives = self.label_locations(predictions, gt_instances)
        num_positives = positives.counts().clamp(min=1).to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, enabled=False):
            return self.losses(predictions, gt_instances, positives, num_positives)[0]

    def label_locations(
        self, predictions: Sequence[list[Tensor]], gt_instances: list[Instances]
    ) -> Positives:
        """Assign the locations of a batch to its boxes, see :func:`assign_locations`.

        Labels are made in the processor's memory, where the boxes of a loader are: how many there
        are is known there without waiting for a GPU.
        """
        counts = torch.tensor([len(x) for x in gt_instances])
        return assign_locations(
            torch.cat([x.gt_boxes.tensor for x in gt_instances]).cpu(),
            torch.repeat_interleave(counts),
            len(gt_instances),
            [x.shape[-2:] for x in predictions[0]],
            self.strides,
            self.level_ranges,
            radius_cls=self.center_radius_cls,
            radius_loc=self.center_radius_loc,
        )

    def losses(
        self,
        predictions: Predictions,
        gt_instances: list[Instances],
        positives: Positives,
        num_positives: Tensor,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute the losses of a batch.

        Args:
            predictions: raw outputs of the head.
            gt_instances: with ``gt_boxes`` (px of the network input) and ``gt_classes``.
            positives: see :meth:`label_locations`.
            num_positives: (2,) the divisors of the classification and the localization losses.

        Returns:
            the weighted losses, and the metrics of :func:`localization_metrics`.
        """
        cls_logits = predictions[0]
        near = positives.of_classification()
        classes = torch.cat([x.gt_classes for x in gt_instances]).cpu()[near.box]
        classes = classes.to(self.device, non_blocking=True)
        positive_logits = near.gather(cls_logits).float().gather(1, classes[:, None])
        borders = self.borders(predictions, gt_instances, positives)
        taught = [borders.decode(borders.gt_bins)]
        if self.decoding == "expectation":
            # Not alone: the bins would make up for each other, and none be accurate.
            taught.append(borders.expect())

        num_cls, num_loc = num_positives
        alpha, gamma = self.focal_loss_alpha, self.focal_loss_gamma
        cls_maps = [x.float() for x in cls_logits]
        cls_loss = focal_loss(cls_maps, positive_logits, alpha=alpha, gamma=gamma)
        loc_losses = [
            localization_loss(x, borders.gt_distances, self.loc_loss_type) for x in taught
        ]
        loc_loss = sum(loc_losses) / len(loc_losses)
        losses = {
            "loss_cls": cls_loss / num_cls,
            "loss_bin": bin_loss(borders.log_probs, borders.gt_bins)
            * (self.bin_loss_weight / num_loc),
            "loss_loc": loc_loss * (self.loc_loss_weight / num_loc),
        }
        if self.error_weights is not None:
            losses["loss_error"] = borders.error_loss(self.error_weights, self.decoding) / num_loc
        with torch.no_grad():
            return losses, localization_metrics(
                borders, decoding=self.decoding, has_variance=self.uncertainty
            )

    def borders(
        self, predictions: Predictions, gt_instances: list[Instances], positives: Positives
    ) -> bins.Borders:
        """Gather what the head says of the borders of the positives, and what is true; for the
        arguments see :meth:`losses`."""
        _, bin_maps, delta_maps = predictions
        boxes = torch.cat([x.gt_boxes.tensor for x in gt_instances]).cpu()[positives.box]
        gt_distances = border_distances(positives.centers(self.strides), boxes)  # (P, 4)
        gt_bins = bins.target_bins(gt_distances, self.bin_edges[positives.level])
        level, gt_distances, gt_bins = (
            x.to(self.device, non_blocking=True) for x in (positives.level, gt_distances, gt_bins)
        )
        bin_channels = positives.gather(bin_maps).float()
        bin_logits, log_variance = split_bin_logits(bin_channels, self.num_bins)
        log_variance = bins.clamp_passing_gradient(log_variance, bins.LOG_VARIANCE_RANGE)
        deltas = positives.gather(delta_maps).float().unflatten(1, (4, self.num_bins))
        return bins.Borders(
            gt_distances=gt_distances,
            gt_bins=gt_bins,
            log_probs=bins.bin_log_probs(bin_logits, log_variance if self.uncertainty else None),
            log_variance=log_variance,
            log2_anchors=self.log2_anchors[level],
            deltas=bins.clamp_passing_gradient(deltas, bins.DELTA_RANGE),
        )

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Predictions
    ) -> list[Instances]:
        """Detect in each image, in px of the network input, best first.

        Returns:
            B ``Instances`` with ``pred_boxes``, ``scores`` (p_box), ``pred_classes``,
            ``cls_scores`` (p_cls), ``loc_scores`` (p_loc) and ``border_scores`` (K, 4), how sure
            the left, top, right and bottom borders are; where errors are learned ``border_stds``
            (K, 4) px, too, how far off they may be.
        """
        results = []
        for i, image_size in enumerate(images.image_sizes):
            with torch.autocast(self.device.type, enabled=False):
                logits, bin_logits, deltas = ([x[i].float() for x in maps] for maps in predictions)
                found = detect(
                    logits,
                    bin_logits,
                    deltas,
                    self.log2_anchors,
                    self.strides,
                    # A tensor already while tracing.
                    image_size if isinstance(image_size, Tensor) else torch.tensor(image_size),
                    error_weights=self.error_weights,
                    **self.detection_options,
                )
            fields = {name: x for name, x in found._asdict().items() if x is not None}
            boxes, classes = Boxes(fields.pop("boxes")), fields.pop("classes")
            results.append(Instances(image_size, pred_boxes=boxes, pred_classes=classes, **fields))
        return results
