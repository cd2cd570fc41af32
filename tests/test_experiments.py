"""Experiments: presets, what runs share, results and the tables made from them."""

import json
import math
import multiprocessing

import pandas as pd
import pytest
from detectron2.config import instantiate
from detectron2.modeling import build_model

from experiments import harness
from experiments.digest import digest
from experiments.harness import iterations_done, run_jobs, shared_trainings
from experiments.job import Job, resolve
from experiments.peers import fit_model
from experiments.plots import draw_results
from experiments.presets import apply_preset, preset_names, read_any_config, read_preset
from experiments.report import (
    Row,
    difference,
    in_paper_order,
    paper_figures,
    results_table,
    table_configs,
)
from experiments.results import COLUMNS, KEY, Results
from experiments.runs import row_key, training_seconds
from experiments.statistics import estimate, seeds_to_settle
from scopenet import ConfigError, load_config
from scopenet.config_file import config_dir

FCOS = "COCO-Detection/fcos_R_50_FPN_1x.py"
ONE_X = "ScopeNet_R_50_FPN_1x.yaml"
RETINANET = "peers/RetinaNet_R_50_FPN_1x.yaml"
NUM_CLASSES = {"COCO": 80, "Digits": 10, "Digits_float32": 10, "Trees": 1}
NUM_CLASSES |= {"Digits-ImageNet": 10, "Cards": 6, "Cards-one": 1, "Cells": 3, "Cells-one": 1}


def with_preset(name: str, preset: str):
    """The YAML config of a model under a preset, without weights to load."""
    cfg = read_any_config(name)
    apply_preset(cfg, read_preset(preset))
    cfg.MODEL.WEIGHTS = ""
    return cfg


# Presets.


def test_there_are_presets():
    assert preset_names() == sorted(NUM_CLASSES)


@pytest.mark.parametrize("preset", preset_names())
def test_preset_gives_all_dense_detectors_the_same_network(preset):
    scopenet = build_model(with_preset(ONE_X, preset))
    retinanet = build_model(with_preset(RETINANET, preset))
    cfg = load_config("Base-ScopeNet.yaml")
    cfg.merge_from_other_cfg(read_preset(preset))
    fcos = instantiate(fit_model(read_any_config(FCOS).model, cfg, read_preset(preset)))

    def shapes(model):
        state = model.backbone.state_dict()
        # FCOS takes p6 from p5, the others from res5.
        return {k: tuple(v.shape) for k, v in state.items() if "top_block.p6.weight" not in k}

    assert shapes(scopenet) == shapes(retinanet) == shapes(fcos)
    assert scopenet.num_classes == retinanet.num_classes == fcos.num_classes == NUM_CLASSES[preset]
    for statistics in ("pixel_mean", "pixel_std"):
        ours, *theirs = (getattr(x, statistics) for x in (scopenet, retinanet, fcos))
        assert all(ours.equal(x) for x in theirs), statistics
    trained = [
        {k for k, x in model.backbone.bottom_up.named_parameters() if x.requires_grad}
        for model in (scopenet, retinanet, fcos)
    ]
    assert trained[0] == trained[1] == trained[2]
    width = 64 if preset in ("Digits", "Digits_float32") else 256
    for logits in (scopenet.head.cls_score, retinanet.head.cls_score, fcos.head.cls_score):
        assert logits.in_channels == width
    layers = [[type(m) for m in model.head.cls_subnet] for model in (scopenet, retinanet, fcos)]
    if preset != "COCO":  # where ScopeNet and RetinaNet have no GroupNorm, and FCOS has
        assert layers[0] == layers[1] == layers[2]


@pytest.mark.parametrize(
    "config",
    [
        "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
        "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
        "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    ],
)
def test_config_of_the_zoo_under_a_preset(config):
    cfg = with_preset(config, "Digits")
    model = build_model(cfg)
    assert not cfg.MODEL.MASK_ON and cfg.DATASETS.TRAIN == ("digits_train",)
    assert model.backbone.bottom_up.stem.conv1.out_channels == 64
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        assert model.num_classes == 10 and cfg.MODEL.ANCHOR_GENERATOR.SIZES[0][0] == 32
    else:
        assert model.roi_heads.num_classes == 10


def test_lazy_peer_is_trained_as_scopenet_is(monkeypatch):
    for check in ("check_datasets", "check_num_classes"):  # the data are not here
        monkeypatch.setattr(f"scopenet.engine.checks.{check}", lambda *_: None)
    monkeypatch.setattr("experiments.job.check_datasets", lambda *_: None)
    lazy = "ScopeNet_R_50_FPN_1x.py"
    ours, *others = (resolve(Job(config, "Trees", 3))[1] for config in (ONE_X, FCOS, lazy))
    for theirs in others:
        for node in ("SOLVER", "INPUT", "DATASETS", "DATALOADER", "SEED"):
            assert ours[node] == theirs[node], node
    assert ours.SEED == 3 and others[0].MODEL.META_ARCHITECTURE == "FCOS"


def test_rate_and_warmup_of_a_job(monkeypatch):
    for check in ("check_datasets", "check_num_classes"):  # the data are not here
        monkeypatch.setattr(f"scopenet.engine.checks.{check}", lambda *_: None)
    monkeypatch.setattr("experiments.job.check_datasets", lambda *_: None)
    job = Job(ONE_X, "Trees", 0, schedule=3.0)
    _, cfg, _ = resolve(job)
    assert row_key(job, cfg) == dict(
        zip(KEY, ("ScopeNet_R_50_FPN_1x", "Trees", 0, 720, 0.0025, 80), strict=True)
    )
    digests = set()
    for config in (ONE_X, FCOS):
        for rate in ({}, {"base_lr": 0.0015}, {"warmup": 40}):
            _, cfg, digest = resolve(Job(config, "Trees", 0, **rate))
            digests.add(digest)
            assert cfg.SOLVER.BASE_LR == rate.get("base_lr", 0.0025)
            assert cfg.SOLVER.WARMUP_ITERS == rate.get("warmup", 80)
    assert len(digests) == 6


def test_frozen_stages_of_a_preset_are_frozen_in_a_lazy_peer(tmp_path):
    path = tmp_path / "frozen.yaml"
    base = config_dir() / "presets" / "Trees.yaml"
    path.write_text(f"_BASE_: {base}\nMODEL:\n  BACKBONE:\n    FREEZE_AT: 4\n")
    preset = read_preset(str(path))
    cfg = load_config("Base-ScopeNet.yaml")
    cfg.merge_from_other_cfg(preset)
    bottom_up = instantiate(fit_model(read_any_config(FCOS).model, cfg, preset)).backbone.bottom_up
    trained = {k.split(".")[0] for k, x in bottom_up.named_parameters() if x.requires_grad}
    assert trained == {"res5"}


def test_lazy_model_without_a_dense_head_is_refused():
    model = read_any_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py").model
    with pytest.raises(ConfigError, match="GeneralizedRCNN of a LazyConfig .* use a YAML config"):
        fit_model(model, load_config(), read_preset("Digits"))


def test_unknown_names():
    with pytest.raises(
        ConfigError, match="Preset Digit is .* one of COCO, Cards, .*Digits_float32, Trees"
    ):
        read_preset("Digit")
    with pytest.raises(ConfigError, match="nothing.yaml is neither a file.* nor in Detectron2's"):
        read_any_config("nothing.yaml")


def test_missing_weights_of_a_preset(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where there is no output/pretrained
    for check in ("check_datasets", "check_config"):  # the data are not here
        monkeypatch.setattr(f"experiments.job.{check}", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="do not exist; make them by: .* --preset Digits"):
        resolve(Job(ONE_X, "Digits", 0))


def test_preset_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("SOLVER:\n  MAX_ITER: 7\n")
    assert read_preset(str(path)).SOLVER.MAX_ITER == 7
    path.write_text("SOLVER:\n  MAX_ITERS: 7\n")
    with pytest.raises(ConfigError, match="SOLVER.MAX_ITERS .* did you mean SOLVER.MAX_ITER?"):
        read_preset(str(path))


# What runs share.


def digest_of(name: str) -> str:
    return digest(load_config(f"paper/{name}.yaml", ["MODEL.WEIGHTS", ""]))


def test_rows_that_differ_at_inference_only_share_a_training():
    one_bin = ["table1/direct_regression", "table2/num1"]
    plain = ["table1/multiple_anchors", "table2/size1_num5", "table3/no_p_loc", "table3/p_loc"]
    sigma2 = ["table1/guided_score", "table3/p_loc_sigma2", "table4/baseline"]
    fpn = ["table4/custom_fpn", "table4/nms_0.6"]
    groups = [{digest_of(name) for name in names} for names in (one_bin, plain, sigma2, fpn)]
    assert [len(group) for group in groups] == [1, 1, 1, 1]
    assert len(set.union(*groups)) == 4


@pytest.mark.parametrize(
    "override", ["SOLVER.BASE_LR 1.0", "SOLVER.MAX_ITER 5", "MODEL.SCOPENET.UNCERTAINTY False"]
)
def test_what_changes_a_training_changes_the_digest(override):
    before = digest(load_config(ONE_X, ["MODEL.WEIGHTS", ""]))
    assert digest(load_config(ONE_X, ["MODEL.WEIGHTS", "", *override.split()])) != before


def test_who_records_a_training_does_not_change_the_digest():
    digests = {digest(load_config(ONE_X, ["TRACKERS", x])) for x in ("[]", "['wandb']")}
    assert len(digests) == 1


def test_weights_count_by_their_contents(tmp_path):
    files = [tmp_path / name for name in "abc"]
    for path, text in zip(files, ("one", "one", "two"), strict=True):
        path.write_text(text)
    a, b, c = (digest(load_config(ONE_X, ["MODEL.WEIGHTS", str(path)])) for path in files)
    assert a == b != c


def test_shared_trainings(tmp_path):
    names = {"a": "x", "b": "y", "c": "x"}
    runs = [
        harness.Run(Job(f"{name}.yaml", "Digits", seed), {}, tmp_path / folder / f"seed{seed}")
        for seed in (0, 1)
        for name, folder in names.items()
    ]
    assert shared_trainings(runs) == [["a", "c"]]


# Progress and time of a run.


def test_iterations_done(tmp_path):
    assert iterations_done(tmp_path) == 0
    whole = json.dumps({"iteration": 39, "time": 1.0})
    (tmp_path / "metrics.json").write_text(f'{whole}\n{{"iteration": 59, "ti')
    assert iterations_done(tmp_path) == 40


def test_training_seconds_counts_repeated_iterations_once(tmp_path):
    # Killed after iteration 39, continued from iteration 20 on: 20 to 39 are there twice.
    lines = [(19, 1.0), (39, 5.0), (39, 2.0), (49, 3.0)]
    text = "\n".join(json.dumps({"iteration": i, "time": t}) for i, t in lines)
    (tmp_path / "metrics.json").write_text(text)
    assert training_seconds(tmp_path) == pytest.approx(20 * 1.0 + 20 * 2.0 + 10 * 3.0)
    (tmp_path / "metrics.json").write_text('{"iteration": 0, "total_loss": 1.0}')
    assert math.isnan(training_seconds(tmp_path))


# Results.


def row(config: str = "c", seed: int = 0, iterations: int = 10, **values) -> dict:
    key = dict(zip(KEY, (config, "Digits", seed, iterations, 0.02, 50), strict=True))
    return dict.fromkeys(COLUMNS, math.nan) | key | values


def test_results_are_added_replaced_and_sorted(tmp_path):
    results = Results(tmp_path / "new" / "results.csv")
    assert not results.has(row())
    results.add(row("b", AP=1.0))
    results.add(row("a", AP=2.0))
    results.add(row("b", AP=3.0, commit="0123456"))
    table = results.read()
    assert table["config"].tolist() == ["a", "b"] and table["AP"].tolist() == [2.0, 3.0]
    assert table["commit"].tolist()[1] == "0123456"
    assert results.has(row("b")) and not results.has(row("b", seed=1))
    assert not results.has(row("b", iterations=20))


def test_rows_of_several_rates_live_side_by_side(tmp_path):
    results = Results(tmp_path / "results.csv")
    rates = [(0.00015, 80), (0.00015, 40), (1e-5, 80)]
    rows = [row(base_lr=lr, warmup=warmup, AP=float(i)) for i, (lr, warmup) in enumerate(rates)]
    for x in (*rows, rows[0]):
        results.add(x)
    table = results.read()
    assert list(zip(table["base_lr"], table["warmup"], strict=True)) == sorted(rates)
    assert all(results.has(x) for x in rows) and not results.has(row(base_lr=0.0002, warmup=80))


def test_results_file_of_another_kind(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("config,AP\nx,1\n")
    with pytest.raises(ValueError, match="results.csv has no columns .*'dataset'"):
        Results(path).read()


def _add_rows(path, config):
    for seed in range(8):
        Results(path).add(row(config, seed))


def test_two_processes_add_rows(tmp_path):
    path = tmp_path / "results.csv"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_rows, args=(path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(Results(path).read()) == 16


def test_what_is_done_is_not_started(tmp_path, monkeypatch):
    jobs = [Job(ONE_X, "Digits", seed) for seed in (0, 1)]
    runs = {
        job: harness.Run(job, row(job.name, job.seed), tmp_path / f"{job.seed}") for job in jobs
    }
    started = []
    monkeypatch.setattr(harness, "plan", lambda job, output: runs[job])
    monkeypatch.setattr(harness, "execute", lambda run, *_: started.append(run.job.seed))
    results = Results(tmp_path / "results.csv")
    results.add(runs[jobs[0]].key | row(jobs[0].name))
    assert run_jobs(jobs, tmp_path, results) == [] and started == [1]


# Statistics.


def test_estimate():
    # Student's t for 2 degrees of freedom is 4.3027; the standard error of 1, 2, 3 is 1 / sqrt 3.
    mean, half_width, count = estimate([1.0, 2.0, 3.0])
    assert (mean, count) == (2.0, 3)
    assert half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert not estimate([1.0, 2.0, 3.0]).excludes_zero and estimate([1.9, 2.0, 2.1]).excludes_zero
    assert math.isnan(estimate([5.0]).half_width) and not estimate([5.0]).excludes_zero
    assert estimate([]).count == 0


def test_seeds_to_settle():
    # Mean 1, standard deviation 1: t / sqrt(n) must fall below 1. n = 6: 2.571 / 2.449 is not yet
    # below, n = 7: 2.447 / 2.646 is.
    assert seeds_to_settle([0.0, 1.0, 2.0]) == 7
    assert seeds_to_settle([-1.0, 1.0]) is None


# Tables.


@pytest.fixture
def two_configs() -> pd.DataFrame:
    ours, base = "paper/table1/guided_score", "paper/table1/direct_regression"
    rows = [row(base, seed, AP=30.0 + seed, AP75=20.0) for seed in range(3)]
    rows += [row(ours, seed, AP=32.0 + seed, AP75=20.0 + seed) for seed in range(3)]
    rows += [row(base, 0, iterations=20, AP=31.0, AP75=21.0)]
    return pd.DataFrame(rows)


def test_differences_are_taken_seed_by_seed(two_configs):
    ours, base, longer = (
        Row(f"paper/table1/{name}", iterations, 0.02, 50)
        for name, iterations in (
            ("guided_score", 10),
            ("direct_regression", 10),
            ("direct_regression", 20),
        )
    )
    assert difference(two_configs, ours, base, "AP").tolist() == [2.0, 2.0, 2.0]
    assert difference(two_configs, ours, longer, "AP").to_dict() == {0: 1.0}


def test_table(two_configs):
    lines = results_table(two_configs, in_paper_order(two_configs["config"])).splitlines()
    header, _, base, doubled, ours = ([c.strip() for c in x.split("|")[1:-1]] for x in lines)
    cells = dict(zip(header, ours, strict=True))
    assert cells["config"] == "table1/guided_score" and cells["paper: AP / AP75"] == "38.0 / 40.6"
    assert cells["AP"] == "33.0 ± 2.5" and cells["seeds"] == "3"
    assert cells["Δ AP"] == "+2.0 ± 0.0" and cells["AP settled"] == "yes"
    # Differences 0, 1, 2 in AP75.
    assert cells["Δ AP75"] == "+1.0 ± 2.5" and cells["AP75 settled"] == "no: 7 seeds would"
    assert base[header.index("Δ AP")] == ""
    assert doubled[0] == "table1/direct_regression, 20 iterations"
    assert base[1] == "35.8 / 37.5" and doubled[1] == ""  # the paper did not run this
    assert doubled[header.index("AP settled")] == "needs more seeds"


def test_table_names_the_rate_of_a_config_that_has_several(two_configs):
    rows = [row("peers/x", base_lr=0.02, AP=1.0), row("peers/x", base_lr=0.0015, AP=2.0)]
    table = pd.concat([two_configs, pd.DataFrame(rows)])
    lines = results_table(table, ["paper/table1/guided_score", "peers/x"]).splitlines()[2:]
    names = [line.split("|")[1].strip() for line in lines]
    assert names == [
        "table1/guided_score",
        "peers/x, rate 0.0015, warm-up 50",
        "peers/x, rate 0.02, warm-up 50",
    ]


def test_figures_that_the_paper_does_not_report():
    lines = results_table(pd.DataFrame([row("paper/table4/gn", AP=1.0)]), ["paper/table4/gn"])
    assert lines.splitlines()[2].split("|")[2].strip() == "39.4"


def test_figure_of_results(two_configs):
    figure = draw_results(two_configs, in_paper_order(two_configs["config"]), "Digits")
    of_ap, _, of_differences = figure.axes
    assert [x.get_text() for x in of_ap.get_yticklabels()] == [
        "table1/direct_regression",
        "table1/direct_regression, 20 iterations",
        "table1/guided_score",
    ]
    runs = [list(line.get_xdata()) for line in of_ap.lines if len(line.get_xdata()) == 3]
    assert runs == [[30.0, 31.0, 32.0], [32.0, 33.0, 34.0]]
    # Mean and interval of AP and AP75; see test_table.
    bars = [segments for c in of_differences.collections for segments in c.get_segments()]
    ends = sorted(tuple(x.round(1) for x in bar[:, 0]) for bar in bars)
    assert ends == [(-1.5, 3.5), (2.0, 2.0)]


@pytest.mark.parametrize("number", range(1, 7))
def test_configs_of_a_table_exist(number):
    configs = table_configs(number)
    assert configs
    for config in configs:
        load_config(f"{config}.yaml")


def test_every_config_of_the_paper_has_its_figures():
    named = {f"paper/{name}" for name in paper_figures()["config"].dropna()}
    assert named == {config for number in range(1, 7) for config in table_configs(number)}
    files = (config_dir() / "paper").rglob("*.yaml")
    assert named == {str(f.relative_to(config_dir()).with_suffix("")) for f in files}
