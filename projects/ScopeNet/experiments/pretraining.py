"""A classifier of a data set's boxes, whose backbone detectors can start from.

Where no ImageNet weights fit, as for a small backbone on Digits, this gives detectors of every kind
the same start, as the paper's have theirs from ImageNet. The task: name what a square crop shows,
one of the classes or the background.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.detection_utils import read_image
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.utils.env import seed_all_rng
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from scopenet.atomic import write_file
from scopenet.engine.precision import cpu_has_bfloat16

CROP_SIZE = 64  # px, of the classifier's input
CROP_SIDES = (0.9, 2.5)  # side of a crop, in longer sides of its box
SHIFT = 0.15  # of a crop from the centre of its box at most, in sides of the box
BACKGROUND_SIDES = (0.1, 0.5)  # side of a crop of background, in shorter sides of the image
BACKGROUND_SHARE = 0.1  # of all crops
BATCH_SIZE = 64  # crops
LEARNING_RATE = 0.1
TEST_CROPS = 1000
TRIES = 100  # to find a place for a crop of background


class CropSampler:
    """Random square crops of the images of a data set, with their classes."""

    def __init__(self, dataset: Sequence[dict], num_classes: int, image_format: str, seed: int):
        """
        Args:
            dataset: dicts in Detectron2's format, with boxes in XYWH; all images are kept.
            num_classes: C; background gets the label C.
        """
        self.images = [read_image(x["file_name"], image_format) for x in dataset]
        self.boxes = [np.array([a["bbox"] for a in x["annotations"]]) for x in dataset]
        self.labels = [[a["category_id"] for a in x["annotations"]] for x in dataset]
        self.num_classes = num_classes
        self.rng = np.random.default_rng(seed)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Draw crops (size, 3, CROP_SIZE, CROP_SIZE) float32 and their labels (size,)."""
        crops, labels = zip(*(self._sample() for _ in range(size)), strict=True)
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float(), torch.tensor(labels)

    def _sample(self) -> tuple[np.ndarray, int]:
        index = self.rng.integers(len(self.images))
        if self.rng.random() < BACKGROUND_SHARE:
            crop = self._background(index)
            if crop is not None:
                return crop, self.num_classes
        which = self.rng.integers(len(self.boxes[index]))
        corner, size = self.boxes[index][which].reshape(2, 2)
        center = corner + size * (0.5 + self.rng.uniform(-SHIFT, SHIFT, 2))
        side = size.max() * self.rng.uniform(*CROP_SIDES)
        return self._crop(index, center, side), self.labels[index][which]

    def _background(self, index: int) -> np.ndarray | None:
        """Draw a crop beside all boxes; None if no place was found."""
        height, width = self.images[index].shape[:2]
        corners, sizes = np.split(self.boxes[index], 2, axis=1)
        for _ in range(TRIES):
            side = self.rng.uniform(*BACKGROUND_SIDES) * min(height, width)
            center = self.rng.uniform(0, (width, height))
            overlap = (abs(corners + sizes / 2 - center) < (sizes + side) / 2).all(1)
            if not overlap.any():
                return self._crop(index, center, side)
        return None

    def _crop(self, index: int, center: np.ndarray, side: float) -> np.ndarray:
        # Repeats the image's rim outside of it.
        patch = cv2.getRectSubPix(self.images[index], (max(2, round(side)),) * 2, tuple(center))
        return cv2.resize(patch, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)


class CropClassifier(nn.Module):
    """The ResNet of a config, global average pooling and one linear layer."""

    def __init__(self, cfg: CfgNode, num_outputs: int):
        super().__init__()
        self.resnet = build_resnet_backbone(cfg, ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN)))
        self.last = cfg.MODEL.RESNETS.OUT_FEATURES[-1]
        self.linear = nn.Linear(self.resnet.output_shape()[self.last].channels, num_outputs)
        mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        return self.linear(self.resnet((crops - self.mean) / self.std)[self.last].mean((2, 3)))


def accuracy(model: CropClassifier, crops: Tensor, labels: Tensor) -> float:
    """Return the share of the crops that are named rightly."""
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(x) for x in crops.split(BATCH_SIZE)])
    return (logits.argmax(1) == labels).float().mean().item()


def train_step(model: CropClassifier, crops: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of a batch, its gradients in the model's parameters."""
    with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bfloat16()):
        logits = model(crops)
    loss = F.cross_entropy(logits.float(), labels)
    model.zero_grad()
    loss.backward()
    return loss.detach()


def pretrain(cfg: CfgNode, iterations: int, seed: int) -> float:
    """Train a classifier of the crops of ``cfg.DATASETS.TRAIN`` and write its ResNet to
    ``cfg.MODEL.WEIGHTS``.

    Returns:
        the share of crops of ``cfg.DATASETS.TEST`` that it names rightly.
    """
    seed_all_rng(seed)
    # Reading the data first fills in the class names of a json.
    splits = [get_detection_dataset_dicts(x) for x in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)]
    num_classes = len(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes)
    train, val = (CropSampler(dicts, num_classes, cfg.INPUT.FORMAT, seed) for dicts in splits)
    model = CropClassifier(cfg, num_classes + 1)
    optimizer = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, iterations)
    with trange(iterations, desc="classifying crops") as progress:
        for _ in progress:
            loss = train_step(model, *train.batch(BATCH_SIZE))
            optimizer.step()
            schedule.step()
            progress.set_postfix(loss=f"{loss:.3f}")
    save_backbone(model.resnet, Path(cfg.MODEL.WEIGHTS))
    return accuracy(model, *val.batch(TEST_CROPS))


def save_backbone(resnet: nn.Module, path: Path) -> None:
    """Write a ResNet under the names it has in a detector with a pyramid."""
    state = {f"backbone.bottom_up.{name}": x for name, x in resnet.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, partial(torch.save, {"model": state, "__author__": "ScopeNet"}))
