"""Frozen normalization folded into the convolutions: the same network, also after changes."""

import pickle
from copy import deepcopy

import pytest
import torch
from builders import small_config
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import build_backbone, build_model
from torch import nn
from torch.nn import functional as F

from scopenet.modeling.folding import FoldedConv2d, fold_frozen_norms


def conv_with_norm(bias: bool = False, activation=F.relu, seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    conv = Conv2d(3, 4, 3, padding=1, bias=bias, norm=FrozenBatchNorm2d(4), activation=activation)
    for tensor in (*conv.parameters(), *conv.norm.buffers()):
        tensor.data = torch.randn(tensor.shape, generator=generator)
    conv.norm.running_var.abs_()
    return nn.Sequential(conv)


def folded(module: nn.Module) -> nn.Module:
    copy = deepcopy(module)
    fold_frozen_norms(copy)
    return copy


IMAGES = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [None, F.relu])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_outputs_are_the_same(bias, activation, mode):
    module = conv_with_norm(bias, activation)
    expected = module(IMAGES)
    assert expected.std() > 0.1
    with torch.set_grad_enabled(mode == "train"):
        found = folded(module).train(mode == "train")(IMAGES)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_the_same():
    module = conv_with_norm(bias=True).double()
    copy = folded(module)
    for x in (module, copy):
        x(IMAGES.double()).square().sum().backward()
    for parameter, expected in zip(copy.parameters(), module.parameters(), strict=True):
        assert expected.grad.abs().min() > 0
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_backbone_of_detectron2():
    torch.manual_seed(0)
    backbone = build_backbone(small_config()).eval()
    for norm in backbone.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.weight.uniform_(0.5, 1)
            norm.bias.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    image = torch.randn(1, 3, 64, 96)
    copy = folded(backbone)
    assert sum(isinstance(x, FoldedConv2d) for x in copy.modules()) == 20  # all of a ResNet-18
    for name, expected in backbone(image).items():
        torch.testing.assert_close(copy(image)[name], expected, rtol=1e-4, atol=1e-4)
    assert list(copy.state_dict()) == list(backbone.state_dict())


def test_scopenet_has_no_frozen_normalization_of_its_own(monkeypatch):
    def fail(*_):
        raise AssertionError("a frozen normalization was computed by itself")

    model = build_model(small_config()).eval()
    monkeypatch.setattr(FrozenBatchNorm2d, "forward", fail)
    with torch.no_grad():
        model([{"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}])


def _add_to_weight(conv):
    conv.weight += 1


def _load(conv):
    conv.load_state_dict(conv_with_norm(bias=True, seed=5)[0].state_dict())


def _change_running_mean(conv):
    conv.norm.running_mean.copy_(torch.tensor([1.0, -2.0, 3.0, 0.5]))


def _replace_bias(conv):
    conv.bias = nn.Parameter(torch.tensor([5.0, 6.0, 7.0, 8.0]))


def _to_double_and_back(conv):
    conv.double().norm.bias.mul_(2)
    conv.float()


@pytest.mark.parametrize(
    "change",
    [_add_to_weight, _load, _change_running_mean, _replace_bias, _to_double_and_back],
)
def test_kept_weights_follow_every_change(change):
    module = conv_with_norm(bias=True)
    copy = folded(module).eval()
    with torch.no_grad():
        before = copy(IMAGES)
        for x in (module, copy):
            change(x[0])
        expected = module(IMAGES)
        assert not torch.allclose(expected, before, atol=0.1)
        torch.testing.assert_close(copy(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_weights_are_folded_once_in_inference_only(monkeypatch):
    calls = []
    fold = FoldedConv2d.fold
    monkeypatch.setattr(FoldedConv2d, "fold", lambda self: calls.append(1) or fold(self))
    copy = folded(conv_with_norm()).eval()
    with torch.no_grad():
        for _ in range(3):
            copy(IMAGES)
    assert len(calls) == 1
    copy(IMAGES)  # with gradients, kept weights would have none
    copy.train()
    with torch.no_grad():
        copy(IMAGES)
    assert len(calls) == 3


def test_a_replaced_normalization_is_used():
    copy = folded(conv_with_norm()).eval()
    with torch.no_grad():
        copy(IMAGES)
    copy[0].norm = nn.BatchNorm2d(4)
    plain = F.conv2d(IMAGES, copy[0].weight, padding=1)
    found = copy.train()(IMAGES)
    expected = F.relu(F.batch_norm(plain, None, None, training=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_traced_module_follows_its_weights():
    copy = folded(conv_with_norm()).eval()
    with torch.no_grad():
        copy(IMAGES)
        traced = torch.jit.trace(copy, IMAGES)
        copy[0].weight.mul_(2)
        torch.testing.assert_close(traced(IMAGES), copy(IMAGES))


def test_other_convolutions_stay_what_they_are():
    module = nn.Sequential(
        Conv2d(3, 4, 1), Conv2d(4, 4, 1, norm=nn.BatchNorm2d(4)), nn.Conv2d(4, 4, 1)
    )
    fold_frozen_norms(module)
    assert [type(x) for x in module] == [Conv2d, Conv2d, nn.Conv2d]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("train", [True, False])
def test_weights_that_a_fused_optimizer_changes(optimizer, train):
    # It leaves no trace in the versions of the weights.
    copy = folded(conv_with_norm()).eval()
    with torch.no_grad():
        before = copy(IMAGES)
    step = optimizer(copy.parameters(), lr=0.5, fused=True)
    copy.train(train)(IMAGES).square().mean().backward()
    step.step()
    with torch.no_grad():
        found = copy.eval()(IMAGES)
        assert not torch.allclose(found, before, atol=0.1)
        assert torch.equal(found, deepcopy(copy)(IMAGES))


def test_weights_that_are_changed_by_their_data():
    copy = folded(conv_with_norm(activation=None)).eval()
    with torch.no_grad():
        before = copy(IMAGES)
        for x in (copy[0].weight, copy[0].norm.bias, copy[0].norm.running_mean):
            x.data.mul_(2)
        copy[0].norm.running_var.data.add_(1)
        found = copy.eval()(IMAGES)  # as every evaluation begins
        assert torch.equal(found, deepcopy(copy)(IMAGES)) and not torch.allclose(found, before)


def test_inference_tensors_and_functional_transforms():
    module = conv_with_norm().eval()
    with torch.inference_mode():
        made_here = folded(module)
        torch.testing.assert_close(made_here(IMAGES), module(IMAGES), rtol=1e-5, atol=1e-5)
    copy = folded(module)
    weights = {k: torch.stack([x, 2 * x]) for k, x in copy.state_dict().items()}
    with torch.no_grad():
        called = torch.func.vmap(
            lambda w, x: torch.func.functional_call(copy, w, (x,)), in_dims=(0, None)
        )(weights, IMAGES)
        torch.testing.assert_close(called[0], module(IMAGES), rtol=1e-5, atol=1e-5)


def test_nothing_is_kept_in_training_or_saved():
    copy = folded(conv_with_norm()).eval()
    size = len(pickle.dumps(copy))
    with torch.no_grad():
        copy(IMAGES)
    assert copy[0]._kept is not None
    assert len(pickle.dumps(copy)) == size and deepcopy(copy)[0]._kept is None
    copy.train()
    assert copy[0]._kept is None
