"""On a GPU: the same results as on the CPU, mixed precision, and what moves between devices.

Every test also runs with the CPU in place of the GPU, so that its body is known to work; the
variants marked ``cuda`` need a GPU.
"""

import io
import json
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import (
    build_scopenet,
    map_sizes,
    random_ground_truth,
    random_predictions,
    small_config,
    spread_out_head,
    write_detector,
)
from detectron2.engine import AMPTrainer
from detectron2.modeling import build_model
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import EventStorage
from miniature import job, mini_datasets, mini_overrides, one_thread
from test_distributed import CASES, OPTIONS, assert_workers_match, workers_gradients_in
from torch import nn

from benchmark.measure import Laps, Work, peak_memory
from scopenet import Detector, ScopeNetWithTTA
from scopenet.analysis.borders import border_tables
from scopenet.engine.command import main
from scopenet.engine.reliability.non_finite import NonFiniteGuard, StepSkipped
from scopenet.engine.reliability.random_states import kept_rng_states
from scopenet.export.graph import DetectionGraph

ONE_X = "ScopeNet_R_50_FPN_1x.yaml"


def on(*places: str):
    """A parameter, marked where it names a GPU."""
    marks = [pytest.mark.cuda] if any(x.startswith("cuda") for x in places) else []
    return pytest.param(*places, marks=marks)


@pytest.fixture(params=[on("cpu"), on("cuda")])
def device(request) -> str:
    return request.param


@pytest.fixture(autouse=True)
def exact_float32():
    """Convolutions would round to TF32; other products do so only if they are told to."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def inputs() -> list[dict]:
    images = torch.randint(256, (2, 3, 96, 128), generator=torch.Generator().manual_seed(0))
    return [
        {"image": image.to(torch.uint8), "instances": random_ground_truth(6, 3, 96, 128, seed)}
        for seed, image in enumerate(images)
    ]


@pytest.fixture
def models(device):
    """The same model on the CPU and on the device."""
    torch.manual_seed(0)
    model = build_model(small_config())
    spread_out_head(model, inputs())
    copy = build_model(small_config("MODEL.DEVICE", device))
    copy.load_state_dict(model.state_dict())
    return model, copy


def losses_of(model, context=nullcontext) -> dict[str, torch.Tensor]:
    with EventStorage(), context():
        return model.train()(inputs())


def assert_same_detections(found: Instances, expected: Instances, minimum: int = 5) -> None:
    """But for the order of additions."""
    found, expected = found.to("cpu"), expected.to("cpu")
    assert len(expected) > minimum
    assert found.pred_classes.tolist() == expected.pred_classes.tolist()
    for name in ("scores", "cls_scores", "loc_scores", "border_scores"):
        torch.testing.assert_close(found.get(name), expected.get(name), rtol=1e-3, atol=1e-4)
    boxes, expected_boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(boxes, expected_boxes, rtol=1e-3, atol=0.05)


# The same as on the CPU


def test_losses_and_gradients_are_those_of_the_cpu(models):
    found = []
    for model in models:
        losses = losses_of(model)
        sum(losses.values()).backward()
        gradients = {name: x.grad.cpu() for name, x in model.named_parameters() if x.requires_grad}
        found.append(({name: loss.item() for name, loss in losses.items()}, gradients))
    (losses, gradients), (losses_there, gradients_there) = found
    assert losses_there == pytest.approx(losses, rel=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradients_there[name], gradient, rtol=1e-2, atol=1e-4 * gradient.abs().max().item()
        )


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_losses_in_fewer_bits_are_near_those_of_the_cpu(models, device, precision):
    here, there = models
    expected = losses_of(here)
    found = losses_of(there, lambda: torch.autocast(device, precision))
    assert all(x.dtype == torch.float32 and x.device.type == device for x in found.values())
    found, expected = ({k: x.item() for k, x in y.items()} for y in (found, expected))
    assert found == pytest.approx(expected, rel=0.05) and found != expected


def test_validation_losses_are_those_of_the_cpu(models):
    here, there = (x.eval().validation_losses(inputs()) for x in models)
    assert {k: x.item() for k, x in there.items()} == pytest.approx(
        {k: x.item() for k, x in here.items()}, rel=1e-4
    )


@torch.no_grad()
def test_detections_are_those_of_the_cpu(models):
    here, there = (x.eval()(inputs()) for x in models)
    for ours, theirs in zip(here, there, strict=True):
        assert_same_detections(theirs["instances"], ours["instances"])


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [80, 1203])
def test_detections_of_many_classes_are_those_of_the_cpu(device, num_classes):
    found, size = [], (320, 640)
    for place in ("cpu", device):
        model = build_scopenet(num_classes=num_classes, test_nms_thresh=0.6).eval()
        maps = random_predictions(model, map_sizes(model, *size), num_images=2)
        maps = [[x.to(place) - 3 * (i == 0) for x in levels] for i, levels in enumerate(maps)]
        images = ImageList(torch.empty(2, 3, 0, 0, device=place), [size, (300, 600)])
        found.append(model.to(place).forward_inference(images, [], maps))
    for ours, theirs in zip(*found, strict=True):
        assert_same_detections(theirs, ours, minimum=50)


@torch.no_grad()
def test_merged_views_are_those_of_the_cpu(models):
    options = {"min_sizes": (80, 96, 120), "max_size": 200, "flip": True}
    here, there = (
        ScopeNetWithTTA(model=x.eval(), **options)([{"image": inputs()[0]["image"]}])
        for x in models
    )
    assert_same_detections(there[0]["instances"], here[0]["instances"])


def test_borders_are_those_of_the_cpu(models):
    """Of ``scopenet analyze``."""
    tables = []
    for model in models:
        model.eval()
        gt_instances = [x["instances"].to(model.device) for x in inputs()]
        tables.append(border_tables(model, model.predict(inputs())[2], gt_instances))
    for ours, theirs in zip(*tables, strict=True):
        assert len(ours) > 20 and list(ours) == list(theirs)
        for name in ours.select_dtypes("number"):
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-3)


# The same in another form


@torch.no_grad()
def test_channels_last_finds_the_same(models):
    here, there = models
    there.to(memory_format=torch.channels_last)
    for ours, theirs in zip(here.eval()(inputs()), there.eval()(inputs()), strict=True):
        assert_same_detections(theirs["instances"], ours["instances"])


@pytest.mark.slow
def test_a_compiled_network_gives_the_same(models, device):
    here, there = models
    backend = "inductor" if device == "cuda" else "aot_eager"  # which generates no code, in minutes
    for module in (there.backbone, there.head):
        module.forward = torch.compile(module.forward, backend=backend)
    for model in models:
        sum(losses_of(model).values()).backward()
    expected = dict(here.named_parameters())
    for name, x in there.named_parameters():
        if x.requires_grad:
            gradient = expected[name].grad
            torch.testing.assert_close(
                x.grad.cpu(), gradient, rtol=1e-2, atol=1e-4 * gradient.abs().max().item()
            )
    with torch.no_grad():
        for ours, theirs in zip(here.eval()(inputs()), there.eval()(inputs()), strict=True):
            assert_same_detections(theirs["instances"], ours["instances"])


@torch.no_grad()
def test_a_graph_for_export_is_on_the_cpu_and_finds_the_same(models):
    here, there = models
    image = inputs()[0]["image"]
    graph = DetectionGraph(there.eval(), reverses_channels=False)
    assert {x.device.type for x in graph.state_dict().values()} == {"cpu"}
    boxes, scores, classes, *_ = graph(image.permute(1, 2, 0))
    (expected,) = here.eval()([{"image": image}])
    expected = expected["instances"]
    assert classes.tolist() == expected.pred_classes.tolist() and len(expected) > 5
    torch.testing.assert_close(scores, expected.scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(boxes, expected.pred_boxes.tensor, rtol=1e-3, atol=0.05)


@torch.no_grad()
def test_models_move_between_devices(models, device):
    """As copies and as pickles, with what they have kept for inference."""
    here, there = models
    expected = here.eval()(inputs())[0]["instances"]
    there.eval()(inputs())
    file = io.BytesIO()
    torch.save(there, file)
    file.seek(0)
    moved = [
        torch.load(file, map_location="cpu", weights_only=False),
        deepcopy(there).cpu(),
        deepcopy(here).to(device),
        deepcopy(there).cpu().to(device),
    ]
    for model in moved:
        assert_same_detections(model(inputs())[0]["instances"], expected)


def test_a_detector_answers_on_the_cpu(device, tmp_path):
    weights = tmp_path / "x.pth"
    cfg = write_detector(weights)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    options = {"weights": str(weights), "overrides": ["MODEL.SCOPENET.SCORE_THRESH_TEST", "0.01"]}
    here, there = (
        Detector.load(cfg, device=x, **options)(image)["instances"] for x in ("cpu", device)
    )
    assert there.scores.device.type == "cpu"
    assert_same_detections(there, here)


# Training


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_what_a_fused_optimizer_has_trained_is_evaluated(models, device, optimizer):
    """Evaluate, train, evaluate: as a new model with the same weights, bit for bit."""
    _, model = models

    def evaluate(x) -> list[torch.Tensor]:
        with torch.no_grad():
            return [y for maps in x.eval().predict(inputs())[2] for y in maps]

    before = evaluate(model)
    parameters = [x for x in model.parameters() if x.requires_grad]
    steps = optimizer(parameters, lr=1e-3, fused=True)
    for _ in range(3):
        steps.zero_grad()
        sum(losses_of(model).values()).backward()
        steps.step()
    new = build_model(small_config("MODEL.DEVICE", device))
    new.load_state_dict(model.state_dict())
    found, expected = evaluate(model), evaluate(new)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(found, before, strict=True))


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def metrics_in(folder: Path) -> list[dict]:
    return [json.loads(x) for x in (folder / "metrics.json").read_text().splitlines()]


# Wide enough for two columns of p6, see docs/performance.md on bfloat16 on CPUs.
WIDE = ["INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MAX_SIZE_TRAIN", "192"]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_trains_and_is_evaluated(device, precision, tmp_path):
    out = tmp_path / "out"
    with mini_datasets(tmp_path / "data"), one_thread():
        more = ["MODEL.DEVICE", device, "SOLVER.AMP.ENABLED", "True", *WIDE]
        more += ["SOLVER.AMP.PRECISION", precision, "MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0"]
        main(job(ONE_X, *mini_overrides(out, *more)))
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in weights_in(out).values())
    detections = json.loads((out / "inference" / "coco_instances_results.json").read_text())
    assert len(detections) > 100 and "validation/total" in metrics_in(out)[-1]
    assert not (out / "non_finite").exists()


class Poisoned(nn.Module):
    """A finite loss whose gradient is NaN."""

    def __init__(self, device: str):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, device=device))

    def forward(self, batch):
        loss = self.weight.sum() * 1.0
        loss.register_hook(lambda gradient: gradient * float("nan"))
        return {"loss": loss}


@pytest.mark.filterwarnings("ignore:.*CUDA is not available", "ignore:.*autocast")
def test_loss_scaling_hides_its_own_search_only(device, tmp_path, monkeypatch):
    """Until nothing is left to scale, gradients that are not finite are the scaler's to skip."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # AMPTrainer insists
    model = Poisoned(device)
    scaler = torch.amp.GradScaler(device, init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = AMPTrainer(model, [[{"image_id": 1}]] * 9, optimizer, grad_scaler=scaler)
    guard = NonFiniteGuard(str(tmp_path), 10, 1)
    guard.watch(model)
    trainer.register_hooks([guard])
    with EventStorage():
        for trainer.iter in range(2):
            trainer.run_step()
        assert scaler.get_scale() == 1 and guard.skipped == 0
        trainer.iter = 2
        with pytest.raises(StepSkipped):
            trainer.run_step()
    assert guard.skipped == 1 and torch.equal(model.weight.cpu(), torch.ones(3))


@pytest.mark.parametrize(
    "first, second", [on("cpu", "cpu"), on("cuda", "cpu"), on("cpu", "cuda"), on("cuda", "cuda")]
)
def test_a_training_goes_on_elsewhere(first, second, tmp_path):
    whole, parts, start = tmp_path / "whole", tmp_path / "parts", tmp_path / "start"
    with mini_datasets(tmp_path / "data"), one_thread():
        # At a small rate. Random weights magnify rounding: with one of 1e-6 in the convolutions,
        # two trainings on one processor end 8% of the way apart here, and at 0.01 elsewhere.
        more = ["DATASETS.TEST", "()", "SOLVER.MAX_ITER", "4", "SOLVER.LR_SCHEDULER_NAME"]
        more += ["WarmupMultiStepLR", "SOLVER.WARMUP_ITERS", "0", "SOLVER.BASE_LR", "0.0001"]
        main(job(ONE_X, *mini_overrides(whole, *more)))
        begin = mini_overrides(parts, *more, "SOLVER.MAX_ITER", "2", "MODEL.DEVICE", first)
        main(job(ONE_X, *begin))
        rest = mini_overrides(parts, *more, "MODEL.DEVICE", second)
        main(job(ONE_X, "--resume", *rest))
        main(job(ONE_X, *mini_overrides(start, *more, "SOLVER.BASE_LR", "0.0")))
    found, expected, initial = (weights_in(x) for x in (parts, whole, start))
    assert {x.device.type for x in found.values()} <= {"cpu", second}
    off, way = (
        torch.cat([(found[k].cpu() - x[k]).flatten() for k in found]).norm()
        for x in (expected, initial)
    )
    assert off <= 0.2 * way  # without its momentum: 0.6


def test_an_evaluation_leaves_the_random_numbers_of_the_device(device):
    torch.manual_seed(0)
    expected = torch.rand(3, device=device)
    torch.manual_seed(0)
    with kept_rng_states():
        torch.rand(5, device=device)
    assert torch.equal(torch.rand(3, device=device), expected)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_give_the_gradient_of_the_joint_batch(tmp_path):
    found = workers_gradients_in(tmp_path, "cuda")
    for options in OPTIONS:
        for case in CASES:
            for parts in (1, 2):
                assert_workers_match(found, options, case, parts, "cuda")


# The benchmark's clocks


def test_laps_and_memory_are_those_of_the_device(device):
    device = torch.device(device)

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
