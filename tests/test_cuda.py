"""On a GPU: the same results as on the CPU, mixed precision, and the benchmark's clocks there."""

import pytest
import torch
from builders import random_ground_truth, small_config, spread_out_head
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from miniature import job, mini_datasets, mini_overrides

from benchmark.measure import Laps, Work, peak_memory
from scopenet.engine.command import main

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def inputs() -> list[dict]:
    images = torch.randint(256, (2, 3, 96, 128), generator=torch.Generator().manual_seed(0))
    return [
        {"image": image.to(torch.uint8), "instances": random_ground_truth(6, 3, 96, 128, seed)}
        for seed, image in enumerate(images)
    ]


def models():
    """The same model on the CPU and on the GPU."""
    model = build_model(small_config())
    spread_out_head(model, inputs())
    copy = build_model(small_config("MODEL.DEVICE", "cuda"))
    copy.load_state_dict(model.state_dict())
    return model, copy


def test_losses_and_gradients_are_those_of_the_cpu():
    found = []
    for model in models():
        with EventStorage():
            losses = model.train()(inputs())
        sum(losses.values()).backward()
        gradients = {name: x.grad.cpu() for name, x in model.named_parameters() if x.requires_grad}
        found.append(({name: loss.item() for name, loss in losses.items()}, gradients))
    (losses, gradients), (losses_there, gradients_there) = found
    assert losses_there == pytest.approx(losses, rel=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradients_there[name], gradient, rtol=1e-2, atol=1e-4 * gradient.abs().max().item()
        )


def test_detections_are_those_of_the_cpu():
    ours, theirs = models()
    for here, there in zip(ours.eval()(inputs()), theirs.eval()(inputs()), strict=True):
        here, there = here["instances"], there["instances"].to("cpu")
        assert len(here) > 5 and here.pred_classes.tolist() == there.pred_classes.tolist()
        torch.testing.assert_close(there.scores, here.scores, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            there.pred_boxes.tensor, here.pred_boxes.tensor, rtol=1e-3, atol=0.05
        )


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_trains(precision, tmp_path):
    with mini_datasets(tmp_path / "data"):
        more = ["MODEL.DEVICE", "cuda", "SOLVER.AMP.ENABLED", "True", "DATASETS.TEST", "()"]
        more += ["SOLVER.AMP.PRECISION", precision]
        main(job("ScopeNet_R_50_FPN_1x.yaml", *mini_overrides(tmp_path / "out", *more)))
    state = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in state.values())


def test_laps_and_memory_are_those_of_the_gpu():
    device = torch.device("cuda")

    def run(laps: Laps) -> None:
        first = torch.zeros(2**20, device=device)
        laps.mark("first")
        second = torch.zeros(2**21, device=device)
        laps.mark("second")
        del first, second

    assert peak_memory(Work(run), device) == 12 * 2**20
    laps = Laps(device)
    run(laps)
    seconds = laps.seconds()
    assert list(seconds) == ["first", "second"] and min(seconds.values()) >= 0
