"""What the detectors are given: random images with random boxes, the same for all."""

from typing import NamedTuple

import torch
from detectron2.structures import Boxes, Instances

SMALLEST_SIDE = 8.0  # px


class Case(NamedTuple):
    """A batch."""

    batch: int
    height: int  # px
    width: int  # px
    boxes: int  # of every image


def random_boxes(case: Case, generator: torch.Generator) -> torch.Tensor:
    """Draw boxes (boxes, 4), XYXY px in the image; sides log-uniform from 8 px to the image's."""
    size = torch.tensor([case.width, case.height])
    exponents = torch.rand(case.boxes, 2, generator=generator)
    sides = SMALLEST_SIDE * (size / SMALLEST_SIDE) ** exponents
    corners = torch.rand(case.boxes, 2, generator=generator) * (size - sides)
    return torch.cat([corners, corners + sides], dim=1)


def random_inputs(case: Case, num_classes: int, device: str, seed: int = 0) -> list[dict]:
    """Draw a batch in Detectron2's format: BGR uint8 images with ``instances``."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for _ in range(case.batch):
        shape = (3, case.height, case.width)
        image = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        classes = torch.randint(num_classes, (case.boxes,), generator=generator)
        instances = Instances(
            (case.height, case.width),
            gt_boxes=Boxes(random_boxes(case, generator)),
            gt_classes=classes,
        )
        inputs.append({"image": image.to(device), "instances": instances.to(device)})
    return inputs
