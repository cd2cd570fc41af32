"""The benchmark: clocks, memory, bounds, equal conditions, tables. No time is asserted."""

import argparse
import json
import shutil
import sys

import numpy as np
import openvino
import pandas as pd
import pytest
import torch
from builders import build_scopenet, random_predictions
from detectron2.structures import ImageList
from detectron2.utils.events import EventStorage
from openvino import opset13
from torch import nn

from benchmark import deployment, light, main, measure, report, results, suites, throughput, works
from benchmark.bounds import RecordConvolutions, fold_frozen_norms
from benchmark.contestants import STOCK_CONFIGS, TUNED_CONFIGS, Contestant, build_contestant
from benchmark.loading import TO_THE_BATCH
from benchmark.measure import Laps, Work, peak_memory, time_in_turns
from benchmark.report import GPU_RATE, above_bounds, by_lap, compared, deployed, markdown
from benchmark.results import Results
from benchmark.suites import Record, Settings, Suite
from benchmark.workload import Case, random_boxes, random_inputs
from scopenet.errors import ConfigError
from scopenet.modeling.folding import FoldedConv2d

CPU = torch.device("cpu")
CASE = Case(1, 128, 160, 5)


@pytest.fixture(scope="module", params=STOCK_CONFIGS)
def contestant(request):
    found = build_contestant(request.param, STOCK_CONFIGS[request.param], "cpu")
    found.imitate_training(random_inputs(CASE, 80, "cpu"))
    return found


# --- clocks and memory --------------------------------------------------------------------------


def test_laps(monkeypatch):
    times = iter([10.0, 10.5, 12.5])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(times))
    laps = Laps(CPU)
    laps.mark("a")
    laps.mark("b")
    assert laps.seconds() == {"a": 0.5, "b": 2.0}


def test_works_take_turns_and_short_ones_are_repeated(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])

    def work(name, *seconds):
        durations = iter(seconds)

        def run(laps):
            calls.append(name)
            clock[0] += next(durations)
            laps.mark("all")

        return Work(run)

    found = time_in_turns(
        {"slow": work("slow", 1, 3, 4), "fast": work("fast", 0.4, 0.025, 0.02, 0.06, 0.08, 0.1)},
        CPU,
        repeats=2,
    )
    warm_up, turns = calls[:3], calls[3:]
    assert warm_up == ["slow", "fast", "fast"]
    assert turns == ["slow", "fast", "fast", "fast", "fast", "slow"]
    assert found["slow"] == [{"all": pytest.approx(3)}, {"all": pytest.approx(4)}]
    # Medians of 0.02 and 0.06, and of 0.08 and 0.1.
    assert found["fast"] == [{"all": pytest.approx(0.04)}, {"all": pytest.approx(0.09)}]


def test_peak_memory():
    kept = torch.zeros(2**20)  # held before, so not counted

    def run(laps, argument):
        first = torch.zeros(2**20)  # 4 MiB
        second = torch.zeros(2**21)
        del first
        third = torch.zeros(2**19)
        laps.mark("all")
        return second, third, argument, kept

    found = peak_memory(Work(run, lambda: (torch.zeros(2**22),)), CPU)
    assert found == 12 * 2**20


# --- equal conditions ---------------------------------------------------------------------------


def test_boxes_are_inside_and_as_many_as_asked_for():
    case = Case(1, 100, 300, 500)
    boxes = random_boxes(case, torch.Generator().manual_seed(0))
    assert boxes.shape == (500, 4) and boxes.min() >= 0
    assert boxes[:, [0, 2]].max() <= 300 and boxes[:, [1, 3]].max() <= 100
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 7.999 and sides[:, 0].max() > 200
    first, second = random_inputs(Case(2, 64, 64, 3), 5, "cpu")
    assert first["image"].dtype == torch.uint8 and first["image"].shape == (3, 64, 64)
    assert not torch.equal(first["image"], second["image"])
    assert first["instances"].gt_classes.max() < 5


def test_outputs_are_spread_as_trained_ones(contestant):
    cls_logits = contestant.predict(random_inputs(CASE, 80, "cpu"))[2][0]
    values = torch.cat([x.flatten() for x in cls_logits])
    assert values.mean().item() == pytest.approx(-4.6, abs=0.01)
    assert values.std().item() == pytest.approx(1.5, abs=0.01)


@torch.no_grad()
def test_the_same_share_of_pairs_are_candidates(contestant):
    inputs, model = random_inputs(CASE, 80, "cpu"), contestant.model.eval()
    contestant.set_candidates(inputs, share=0.002, nms_thresh=1.0)
    images, features, predictions = contestant.predict(inputs)
    pairs = sum(x.numel() for x in predictions[0])
    model.test_topk_candidates = model.max_detections_per_image = 10**6
    (found,) = model.forward_inference(images, features, predictions)
    # The model's own scores; boxes that are empty in the image may have been dropped.
    assert 0.8 * 0.002 * pairs < len(found) <= 0.002 * pairs + 1
    assert model.test_nms_thresh == 1.0


@pytest.mark.parametrize("uncertainty", [True, False])
@pytest.mark.parametrize("guided_score", [True, False])
def test_scores_are_those_of_the_model(uncertainty, guided_score):
    model = build_scopenet((8, 16), uncertainty=uncertainty, guided_score=guided_score).eval()
    predictions = random_predictions(model, [(12, 12), (6, 6)])  # some beyond the clamps
    predictions[2][:] = [x.zero_() for x in predictions[2]]  # no box is empty
    model.test_topk_candidates = model.max_detections_per_image = 10**6
    model.test_score_thresh, model.test_nms_thresh = 0.0, 1.0
    images = ImageList(torch.zeros(1, 3, 96, 96), [(96, 96)])
    (found,) = model.forward_inference(images, [], predictions)
    scores = Contestant("x", model).scores(predictions)
    assert len(found) == len(scores) == (144 + 36) * 3
    torch.testing.assert_close(found.scores, scores.sort(descending=True).values)


@pytest.mark.parametrize("name", TUNED_CONFIGS)
def test_tuned_peers_are_the_same_detectors(name):
    stock = build_contestant("stock", TUNED_CONFIGS[name], "cpu").model.eval()
    tuned = build_contestant(name, TUNED_CONFIGS[name], "cpu").model.eval()
    assert any(isinstance(x, nn.GroupNorm) for x in tuned.head.modules()) == (name == "tuned FCOS")
    assert sum(isinstance(x, FoldedConv2d) for x in tuned.modules()) == 53  # of ResNet-50
    layouts = []
    tuned.backbone.bottom_up.stem.conv1.register_forward_hook(
        lambda _, inputs, output: layouts.extend([inputs[0], output])
    )
    inputs = random_inputs(CASE, 80, "cpu")
    expected, found = (x.backbone(x.preprocess_image(inputs).tensor) for x in (stock, tuned))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in layouts)
    for level, x in expected.items():
        assert (found[level] - x).abs().max() < 1e-3 * x.abs().max()
    with EventStorage():
        losses = [x.train()(inputs) for x in (stock, tuned)]
    for x, y in zip(*(x.values() for x in losses), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


def test_other_detectors_are_refused():
    with pytest.raises(ConfigError, match="GeneralizedRCNN, not ScopeNet, FCOS or RetinaNet"):
        build_contestant("x", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", "cpu")


# --- works and bounds ---------------------------------------------------------------------------


def test_weights_are_folded_once_for_all_calls(monkeypatch):
    contestant = build_contestant("ScopeNet", STOCK_CONFIGS["ScopeNet"], "cpu")
    work = works.inference(contestant, random_inputs(CASE, 80, "cpu"), torch.float32)
    work.run(Laps(CPU))
    monkeypatch.setattr(FoldedConv2d, "fold", lambda self: pytest.fail("folded anew"))
    work.run(Laps(CPU))


LAPS = {
    works.labels: ["labels"],
    works.losses: ["labels and losses", "their backward"],
    works.detections: ["detections"],
    works.inference: ["preprocessing", "backbone", "head", "detections"],
    works.training_step: [
        *("preprocessing", "backbone", "head", "labels and losses", "backward", "optimizer")
    ],
    works.network: ["network"],
}


@pytest.mark.parametrize("make", LAPS)
def test_works_run_and_mark_their_laps(contestant, make):
    inputs = random_inputs(CASE, 80, "cpu")
    takes_precision = make in (works.inference, works.training_step, works.network)
    work = make(contestant, inputs, *[torch.float32] * takes_precision)
    before = [x.clone() for x in contestant.model.parameters()]
    for _ in range(2):  # a call must not spoil the next one
        laps = Laps(CPU)
        work.run(laps, *work.prepare())
        assert laps.names == LAPS[make]
    after = contestant.model.parameters()
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_losses_work_computes_the_gradients_of_the_outputs(contestant):
    work = works.losses(contestant, random_inputs(CASE, 80, "cpu"))
    (predictions,) = work.prepare()
    work.run(Laps(CPU), predictions)
    assert all(x.grad is not None for maps in predictions for x in maps)


def test_folding_leaves_the_network_as_it_was(contestant):
    model = contestant.model.eval()
    images = model.preprocess_image(random_inputs(CASE, 80, "cpu")).tensor
    with torch.no_grad():
        expected = model.backbone(images)["p3"]
        found = fold_frozen_norms(model.backbone)(images)["p3"]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_all_convolutions_are_recorded_forward_and_backward():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    calls = []

    class Spy(RecordConvolutions):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            calls.append(str(function))
            return super().__torch_dispatch__(function, types, args, kwargs)

    with Spy() as record:
        network(torch.zeros(1, 3, 8, 8)).sum().backward()
    assert sum("relu" in name for name in calls) == 1
    functions = [str(function).split(".")[1] for function, _ in record.calls]
    assert functions == ["convolution"] * 2 + ["convolution_backward"] * 2
    replayed = Spy()
    calls.clear()
    with replayed:
        record.replay()
    assert calls == [str(function) for function, _ in record.calls]


# --- suites -------------------------------------------------------------------------------------


class Named:
    """A contestant for works that do not look at it."""

    def __init__(self, name):
        self.name, self.model = name, type("Model", (), {"num_classes": 3})


def test_who_would_exceed_the_memory_leaves(monkeypatch):
    def make(contestant, inputs):
        size = len(inputs[0]["instances"]) * (1000 if contestant.name == "dense" else 1)

        def run(laps):
            torch.zeros(size, dtype=torch.uint8)
            laps.mark("all")

        return Work(run)

    suite = Suite("x", make, [Case(1, 64, 64, boxes) for boxes in (10, 20, 40)])
    settings = Settings(CPU, repeats=1, memory_limit=30_000)
    records = list(suite.run([Named("dense"), Named("sparse")], settings))
    assert [(x.detector, x.case.boxes) for x in records] == [
        ("dense", 10), ("sparse", 10), ("dense", 20), ("sparse", 20), ("sparse", 40),
    ]  # fmt: skip
    assert [x.peak_bytes for x in records if x.detector == "dense"] == [10_000, 20_000]


def test_the_limit_is_that_of_the_device(monkeypatch):
    pages = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 50}
    monkeypatch.setattr(measure.os, "sysconf", pages.get)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 10_000))
    assert Settings(CPU).memory_limit == 30_000
    assert Settings(torch.device("cuda")).memory_limit == 6_000
    assert Settings(CPU, memory_limit=5).memory_limit == 5


@pytest.mark.parametrize(
    "before, expected",
    [
        ([], 0),
        ([(10, 500)], 500),
        ([(0, 100), (10, 500)], 1700),  # 100 and 40 for each of 40
        ([(5, 0), (0, 100), (10, 500)], 1700),
        ([(10, 500), (20, 400)], 400),
        ([(10, 500), (10, 900)], 900 + 400 * 30),
    ],
)
def test_expected_peak(before, expected):
    assert suites.expected_peak(before, Case(1, 64, 64, 40)) == expected


# --- tables -------------------------------------------------------------------------------------


INFERENCE = ("preprocessing", "backbone", "head", "detections")


def record(suite, detector, case, *totals, peak=2**20, laps=("all",)):
    seconds = [{name: total / len(laps) for name in laps} for total in totals]
    return Record(suite, detector, case, seconds, peak)


@pytest.fixture
def found(tmp_path):
    case, small = Case(2, 800, 1344, 7), Case(1, 320, 320, 0)
    found = Results({"command": "x"}, [], [])
    for x in (
        record("labels", "ScopeNet", case, 0.0001, 0.0002, 0.0004, peak=3 * 2**18),
        record("labels", "FCOS", case, 0.004, 0.005, 0.006, peak=200 * 2**20),
        record("inference", "ScopeNet", small, 1.0, 3.0, laps=INFERENCE),
        record("inference", "ScopeNet: network", small, 1.8, 1.8),
        record("inference", "FCOS", small, 4.0, 4.0, laps=INFERENCE),
    ):
        found.add(x)
    found.save(tmp_path / "x" / "benchmark.json")
    return Results.load(tmp_path / "x" / "benchmark.json")


def test_comparison(found):
    (row,) = compared(found.table(), "labels").to_dict("records")
    assert row == {
        "batch": "2 × 800×1344",
        "boxes per image": 7,
        "ScopeNet, ms": "0.20 ± 0.15",
        "FCOS, ms": "5.00 ± 1.00",
        "ratio to FCOS": "1/25 (≤ 1/8)",
        "ScopeNet, MiB": "0.75",
        "FCOS, MiB": "200",
    }
    (row,) = compared(found.table(), "inference").to_dict("records")
    assert row["ratio to FCOS"] == "0.50 (≤ 0.95)"
    assert "boxes per image" not in row


def test_laps_and_bounds(found):
    rows = by_lap(found.table(), "inference").to_dict("records")
    assert [(x["detector"], x["head, ms"]) for x in rows] == [
        ("ScopeNet", "500.0"),
        ("FCOS", "1000.0"),
    ]
    (row,) = above_bounds(found.table(), "inference").to_dict("records")
    assert row["detector"] == "ScopeNet"
    assert (row["network alone, ms"], row["above network"]) == ("1800", "10.0%")
    assert row["outside backbone and head"] == "50.0%"


def test_deployed_formats_beside_pytorch(found):
    case = Case(1, 480, 640, 0)
    for name, seconds in (("PyTorch", 1.0), ("pt2", 0.9), ("OpenVINO int8", 0.2)):
        found.add(record("deployment", name, case, seconds, peak=0))
    rows = deployed(found.table()).to_dict("records")
    assert [x["run by"] for x in rows] == ["PyTorch", "pt2", "OpenVINO int8"]
    assert [x["ms"] for x in rows] == ["1000 ± 0", "900 ± 0", "200 ± 0"]
    ratios = [x["ratio to PyTorch"] for x in rows]
    assert ratios == ["1.00", "0.90", "0.20 (≤ 0.23)"]
    assert "## Deployment, one image of 480×640" in markdown(found)


def test_markdown_has_what_was_run(found):
    text = markdown(found)
    assert "- command: x" in text and "## Labels" in text and "## Training" not in text


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "benchmark.json"
    with pytest.raises(ConfigError, match=r"benchmark\.json is no file of benchmark\.py"):
        Results.load(path)
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"benchmark\.json is no file of benchmark\.py"):
        Results.load(path)


@pytest.mark.parametrize("rate, processes", [("20", 1), ("20.1", 2), ("30", 2), ("400", 20)])
def test_loader_processes_of_a_gpu(rate, processes):
    """One process loads 20 images/s, whatever else it was timed at."""
    laps = {"read and decode": 0.01, TO_THE_BATCH: 0.05}
    case = Case(1, 427, 640, 7)
    found = Results({GPU_RATE: rate}, [], [])
    found.add(Record("loading", "one process", case, [laps], 1))
    (table,) = (x for title, x in report.tables(found) if title.startswith("Loader processes"))
    (row,) = table.to_dict("records")
    assert row["processes per GPU"] == processes
    assert row["images/s of one process"] == "20" and row[GPU_RATE] == rate
    # 16 images on 8 GPUs.
    assert float(row["seconds of a 1x iteration"]) == pytest.approx(2 / float(rate), rel=0.01)


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "many"])
def test_rate_that_is_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is no positive number"):
        main.positive(text)


# --- the program --------------------------------------------------------------------------------


@pytest.mark.slow
def test_program_in_miniature(monkeypatch, tmp_path, capsys):
    for module in (suites, results):
        monkeypatch.setattr(module, "LARGE", (96, 128))
    monkeypatch.setattr(suites, "SMALL", (64, 64))
    monkeypatch.setattr(suites, "SIZES_OF_CURVE", ((64, 64), (64, 96)))
    monkeypatch.setattr(suites, "BOXES_OF_CURVE", (1, 10))
    arguments = ["--boxes", "3", "--repeats", "1", "--detectors", "ScopeNet", "FCOS"]
    arguments += ["--gpu-rate", "20"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments, "--output", str(tmp_path)])
    main.run()
    table = Results.load(tmp_path / "benchmark.json").table()
    assert set(table["suite"]) == {
        *("loading", "labels", "losses", "detections", "inference", "training", "boxes"),
        *("inference by area", "training by area"),
    }
    assert (table["median"] > 0).all() and (table["peak_bytes"] > 0).all()
    assert isinstance(table, pd.DataFrame)
    assert {x.name for x in tmp_path.iterdir()} == {
        *("benchmark.json", "benchmark.md", "boxes.png", "areas.png")
    }
    about = json.loads((tmp_path / "benchmark.json").read_text())["about"]
    assert about["command"].startswith("python benchmark.py --boxes 3")
    printed = capsys.readouterr().out
    assert "## Inference, above its bounds" in printed and "## Loader processes of a" in printed


@pytest.mark.slow
def test_deployment(monkeypatch):
    """A format is the same detector: on one image, as many detections as the model has."""
    monkeypatch.setattr(deployment, "CASE", Case(1, 96, 128, 0))
    monkeypatch.setattr(deployment, "EXPORTS", {"TorchScript": ("torchscript", "float32")})
    seen = []
    work = deployment.image_work
    monkeypatch.setattr(
        deployment,
        "image_work",
        lambda run, image: seen.append(run(image)["instances"]) or work(run, image),
    )
    fcos, scopenet = (build_contestant(x, STOCK_CONFIGS[x], "cpu") for x in ("FCOS", "ScopeNet"))
    scopenet.imitate_training(random_inputs(CASE, 80, "cpu"))
    records = [*deployment.DeploymentSuite().run([fcos, scopenet], Settings(CPU, repeats=1))]
    assert [x.detector for x in records] == ["PyTorch", "TorchScript"]
    assert all(x.seconds[0]["image"] > 0 for x in records)
    expected, found = seen
    assert len(expected) > 20
    torch.testing.assert_close(found.scores, expected.scores)
    with pytest.raises(ConfigError, match="needs ScopeNet"):
        next(deployment.DeploymentSuite().run([fcos], Settings(CPU)))


@pytest.mark.slow
def test_detectors_for_cpus(monkeypatch, tmp_path):
    """Every form and a peer are timed at every size; the exported ones find the same."""
    monkeypatch.setattr(light, "TURN", 0.01)
    scopenet = build_contestant("small", "light/ScopeNet_EfficientNet_Lite0_320.yaml", "cpu")
    scopenet.imitate_training(random_inputs(CASE, 80, "cpu"))
    light.export(scopenet.model, tmp_path / "own.xml", "openvino", "float32")
    # Each ReLU6 of the backbone is one operation: as two, NNCF would quantize much less.
    assert (tmp_path / "own.xml").read_text().count('type="Clamp"') >= 31

    def export(model, path, *_):
        for suffix in (".xml", ".bin"):
            shutil.copy(tmp_path / f"own{suffix}", path.with_suffix(suffix))

    predict, seen = light.predict, []
    monkeypatch.setattr(light, "export", export)
    monkeypatch.setattr(light, "predict", lambda *x: seen.append(predict(*x)))
    image = opset13.parameter([1, 3, -1, -1], np.float32)
    openvino.save_model(openvino.Model([opset13.relu(image)], [image]), tmp_path / "peer.xml")
    found = Results({}, [], [])
    suite = light.LightSuite((64, 96), peers=[("other", tmp_path / "peer.xml")])
    for record in suite.run([scopenet], Settings(CPU, repeats=1)):
        assert all(x > 0 for x in record.seconds[0].values())
        found.add(record)
    table = report.light(found.table())
    assert table["px"].tolist() == [64, 64, 96, 96]
    assert table["detector"].tolist() == ["small", "other"] * 2
    assert [x for x in table if table[x][0] != "–"] == [
        *("px", "detector", "training step, ms", "PyTorch, ms", "OpenVINO float32, ms"),
        *("OpenVINO int8, ms", "OpenVINO int8, one size, ms"),
    ]
    # Of each size: random pixels, so that the detections of two sizes are not the same.
    sums = {round(x["instances"].scores.sum().item(), 3) for x in seen}
    assert len(sums) == 2 and min(sums) > 0.5


@pytest.mark.slow
def test_throughput(monkeypatch):
    monkeypatch.setattr(deployment, "CASE", CASE)
    monkeypatch.setattr(throughput, "FILES", Case(3, 96, 128, 0))
    monkeypatch.setattr(throughput, "SMALL", Case(3, 64, 96, 0))
    export = deployment.export
    monkeypatch.setattr(throughput, "export", lambda *x: export(*x[:-1], "float32"))
    scopenet, fcos = (build_contestant(x, STOCK_CONFIGS[x], "cpu") for x in ("ScopeNet", "FCOS"))
    found = Results({}, [], [])
    for record in throughput.ThroughputSuite().run([fcos, scopenet], Settings(CPU, repeats=1)):
        assert len(record.seconds) == 1 and record.seconds[0]["images"] > 0
        found.add(record)
    table = report.throughput(found.table())
    assert table["images"].tolist() == ["96×128"] * 3 + ["64×96"] * 2
    assert table["ratio"][0] == table["ratio"][3] == "1.00"
    (first, *_), (rate, *_) = found.records, table["images/s"]
    assert float(rate) == pytest.approx(3 / first["seconds"][0]["images"], abs=0.06)
    with pytest.raises(ConfigError, match="throughput needs ScopeNet"):
        next(throughput.ThroughputSuite().run([fcos], Settings(CPU)))


def test_a_missing_gpu_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device", "cuda"])
    with pytest.raises(SystemExit, match="error: There is no GPU for --device cuda"):
        main.run()


def test_named_configs():
    args = main.parser().parse_args(
        ["--config", "mine=paper/table4/gn.yaml", "--detectors", "FCOS"]
    )
    assert args.config == [("mine", "paper/table4/gn.yaml")]
    for text in ("gn.yaml", "=gn.yaml", "mine=", "a: b=gn.yaml"):
        with pytest.raises(SystemExit):
            main.parser().parse_args(["--config", text])
