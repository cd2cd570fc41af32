"""How often a GPU and the processor wait for each other, counted on a pretended GPU. That nothing
mixes tensors of the two is seen on the way."""

from collections.abc import Iterable

import pytest
import torch
from builders import build_scopenet
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from pretended_gpu import pretended_gpu
from torch import Tensor, nn

from scopenet.config_file import load_config
from scopenet.engine.precision import build_step_trainer
from scopenet.engine.reliability.non_finite import NonFiniteGuard

SIDE = 128  # px


def sample(seed: int) -> dict:
    """A labelled image as loaders give it: noise, and three boxes."""
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(3, 2, generator=generator)
    sides = 20 + 40 * torch.rand(3, 2, generator=generator)
    instances = Instances((SIDE, SIDE), gt_boxes=Boxes(torch.cat([corners, corners + sides], 1)))
    instances.gt_classes = torch.arange(3)
    image = torch.randint(256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": 2 * SIDE, "width": SIDE}


def tensors_of(batch: list[dict]) -> Iterable[Tensor]:
    for x in batch:
        yield from (x["image"], x["instances"].gt_boxes.tensor, x["instances"].gt_classes)


def places(waits) -> str:
    return "\n".join(f"{count} x {place}" for place, count in waits.items())


@pytest.mark.parametrize("num_images", [1, 4])
def test_a_training_step_waits_five_times(num_images, tmp_path):
    model = build_scopenet((8, 16, 32)).train()
    batch = [sample(i) for i in range(num_images)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    trainer = build_step_trainer(load_config(), model, [batch] * 2, optimizer)
    guard = NonFiniteGuard(str(tmp_path), max_in_a_row=3, batch_size=num_images)
    guard.watch(model)
    trainer.register_hooks([guard])
    with EventStorage() as storage:
        trainer.iter = 0
        trainer.run_step()
        with pretended_gpu(model, tensors_of(batch)) as waits:
            trainer.run_step()
    # The three losses for Detectron2's log, the metrics, and what the guard looks at.
    assert waits.total() == 5, places(waits)
    assert storage.latest()["positives_loc_per_image"][0] > 0


# Large boxes suppress each other, so that NMS, after the best ones, looks at all of them.
@pytest.mark.parametrize("delta, expected", [(0.0, 5), (3.0, 6)])
def test_detecting_in_an_image_waits_at_most_six_times(delta, expected):
    model = build_scopenet((8, 16, 32), max_detections_per_image=50).eval()
    nn.init.constant_(model.head.border_pred.bias, delta)
    nn.init.zeros_(model.head.cls_score.bias)  # every location is a candidate
    batch = [sample(0)]
    with torch.no_grad(), pretended_gpu(model, tensors_of(batch)) as waits:
        (found,) = model(batch)
    assert (len(found["instances"]) == 50) == (delta == 0)
    assert waits.total() == expected, places(waits)


def test_the_pretended_gpu_counts_and_refuses():
    layer = nn.Linear(3, 2)
    x, mask = torch.ones(4, 3), torch.tensor([True, False])
    with pretended_gpu(layer, [x, mask]) as waits:
        with pytest.raises(RuntimeError, match="two devices"):
            layer(x)
        there = layer(x.to("cpu"))  # waits
        there = layer(x.to("cpu", non_blocking=True)) + there
        assert waits.total() == 1
        there[there > 0]
        there.sum().item()
        there.tolist()
        there[:, mask]
        there.nonzero()
        torch.tensor([1.0], device=there.device)
        assert waits.total() == 7
        x.tolist(), x[x > 0], there.flatten()[1:], there.cpu().tolist(), there.clamp(min=0)
    assert waits.total() == 8
