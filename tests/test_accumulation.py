"""Batches that go through the model in parts give the gradient of the whole."""

import pytest
import torch
from builders import build_scopenet, ground_truth, random_boxes, small_config
from detectron2.modeling import build_model
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from scopenet import ConfigError, ScopeNet, load_config
from scopenet.config_file import load_lazy_config, settings_of
from scopenet.engine.accumulation import MicroBatches
from scopenet.engine.precision import autocast_in_training, build_step_trainer

# Height, width and number of boxes of the images of a batch.
IMAGES = [(96, 64, 3), (64, 128, 0), (80, 100, 5), (32, 40, 1)]


def batch_of(images=IMAGES) -> list[dict]:
    batch = []
    for i, (height, width, num_boxes) in enumerate(images):
        generator = torch.Generator().manual_seed(i)
        boxes = random_boxes(num_boxes, height, width, seed=i)
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        image = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
        instances = ground_truth(boxes, [j % 3 for j in range(num_boxes)], (height, width))
        batch.append({"image": image, "instances": instances})
    return batch


def resnet() -> ScopeNet:
    torch.manual_seed(0)
    return build_model(small_config("MODEL.SCOPENET.CONV_DIM", 64, "MODEL.SCOPENET.NORM", "GN"))


MODELS = {
    "resnet": resnet,
    "pooled": lambda: build_scopenet((8, 16, 32)),
    "one_bin": lambda: build_scopenet((8, 16), num_bins=1, uncertainty=False),
}


def gradient_of(forward, model: nn.Module, batch: list[dict]) -> tuple[dict[str, Tensor], Tensor]:
    """The losses, and the gradient of all parameters in one row."""
    model.zero_grad()
    losses = forward(batch)
    sum(losses.values()).backward()
    row = torch.cat([x.grad.flatten() for x in model.parameters() if x.requires_grad])
    return {k: x.detach() for k, x in losses.items()}, row.double()


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("kind", MODELS)
def test_parts_give_the_losses_and_the_gradient_of_the_whole(kind, number):
    # In float64, so that the order of summation says nothing.
    model, batch = MODELS[kind]().train().double(), batch_of()
    losses, expected = gradient_of(model, model, batch)
    in_parts = MicroBatches(model, number, lambda loss: loss)
    found_losses, found = gradient_of(in_parts, model, batch)
    assert (found - expected).norm() <= 1e-7 * expected.norm()
    assert found_losses.keys() == losses.keys()
    for name, loss in losses.items():
        assert loss > 0 or (kind, name) == ("one_bin", "loss_bin")
        torch.testing.assert_close(found_losses[name], loss, rtol=1e-6, atol=0)


def test_what_is_known_before_is_what_a_forward_pass_finds():
    model, batch = resnet().train(), batch_of()
    joint = model.joint_batch(batch)
    assert (joint.height, joint.width) == (96, 128)
    with EventStorage() as storage:
        model(batch)
        latest = storage.latest()
    per_image = [latest[f"positives_{x}_per_image"][0] for x in ("cls", "loc")]
    assert joint.num_positives.tolist() == [4 * x for x in per_image]
    # Parts without a box, too, are divided by the positives of all.
    nothing = model.joint_batch(batch_of([(64, 64, 0)]))
    assert nothing.num_positives.tolist() == [1, 1]


def test_true_sizes_stay_known():
    model, batch = build_scopenet((8, 16)).train(), batch_of()
    joint = model.joint_batch(batch)
    images = model.preprocess_image(batch[2:], joint)
    assert images.tensor.shape[-2:] == (96, 128)
    expected = model.preprocess_image(batch).tensor[2:]
    torch.testing.assert_close(images.tensor, expected, rtol=0, atol=0)


def test_parts_before_the_last_are_scaled_by_the_scaler():
    model, batch = build_scopenet((8, 16)).train(), batch_of()
    in_parts = MicroBatches(model, 2, lambda loss: 8 * loss)
    model.zero_grad()
    losses = in_parts(batch)
    (8 * sum(losses.values())).backward()
    found = model.head.cls_score.weight.grad.clone()
    model.zero_grad()
    sum(model(batch).values()).backward()
    torch.testing.assert_close(found, 8 * model.head.cls_score.weight.grad, rtol=1e-5, atol=1e-6)


def step(model: nn.Module, batch: list[dict], *overrides: str) -> list[Tensor]:
    """The weights after two iterations of Detectron2's trainer with strong clipping."""
    cfg = load_config("", ["MODEL.DEVICE", "cpu", *overrides])
    cfg.SOLVER.IMS_PER_BATCH = len(batch)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.01
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    optimizer = maybe_add_gradient_clipping(cfg, optimizer)
    trainer = build_step_trainer(cfg, model, [batch] * 2, optimizer)
    with EventStorage() as storage:
        for trainer.iter in range(2):
            trainer.run_step()
        assert trainer.model is model
        total = storage.latest()["total_loss"][0]
    return [x.detach() for x in model.parameters()] + [torch.tensor(total)]


def test_clipping_and_log_are_of_the_whole():
    batch = batch_of()
    whole, parts = (
        step(build_scopenet((8, 16)), batch, "SOLVER.ACCUMULATION", str(x)) for x in (1, 4)
    )
    start = [*build_scopenet((8, 16)).parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(whole, start, strict=False))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_every_part_is():
    model, batch, types = build_scopenet((8, 16)).train(), batch_of(), []
    autocast_in_training(model, "cpu")
    _, expected = gradient_of(model, model, batch)
    conv = model.head.cls_subnet[0]
    conv.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    _, found = gradient_of(MicroBatches(model, 4, lambda loss: loss), model, batch)
    assert {*types} == {torch.bfloat16} and len(types) == 4 * 2  # parts and levels
    assert (found - expected).norm() <= 1e-2 * expected.norm()


def test_parts_share_one_autocast():
    """As in Detectron2's AMPTrainer, which goes forward in it and back outside."""
    model, batch = build_scopenet((8, 16)).train(), batch_of()

    def forward(of):
        with torch.autocast("cpu", torch.bfloat16):
            return of(batch)

    _, expected = gradient_of(lambda batch: forward(model), model, batch)
    in_parts = MicroBatches(model, 4, lambda loss: loss)
    _, found = gradient_of(lambda batch: forward(in_parts), model, batch)
    assert (found - expected).norm() <= 1e-2 * expected.norm()


def test_parts_must_be_equal():
    model = build_scopenet((8, 16))
    for number, said in ((3, "3 does not divide the 4 images"), (0, "0 does not divide")):
        with pytest.raises(ConfigError, match=said):
            step(model, batch_of(), "SOLVER.ACCUMULATION", str(number))


def test_detectors_that_do_not_know_are_refused():
    with pytest.raises(ConfigError, match="the losses of Linear are not those of its parts"):
        step(nn.Linear(1, 1), batch_of(), "SOLVER.ACCUMULATION", "2")


def test_lazy_config_has_the_key_too():
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", ["train.accumulation=4"])
    assert settings_of(lazy).SOLVER.ACCUMULATION == 4
