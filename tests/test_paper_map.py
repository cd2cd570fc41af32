"""docs/paper.md names only what exists, and configs/paper/figures.csv holds the paper's figures."""

import csv
import importlib
import re
from functools import cache
from pathlib import Path

import pytest
from builders import build_scopenet
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from scopenet import ScopeHead, ScopeNet, load_config
from scopenet.config_file import all_keys, config_dir

ROOT = Path(__file__).resolve().parent.parent
LINES = (ROOT / "docs" / "paper.md").read_text().splitlines()
CODE_SPAN = re.compile(r"`([^`]+)`")
FUNCTION = re.compile(r"([\w/]+\.py):([\w.]+)")
KEY = re.compile(r"([A-Z][A-Z0-9_]*(?:\.[A-Z][A-Z0-9_]*)*)(?: (.+))?")
TABLE_CONFIG = re.compile(r"table\d/[\w.]+")
FOLDER_OR_FILE = re.compile(r"[\w.]+/[\w./]*")
OTHERS = {"--num-gpus 8", "linear_iou", "giou"}  # code spans that name none of these

with (config_dir() / "paper" / "figures.csv").open(newline="") as f:
    FIGURES = list(csv.DictReader(f))
AP = ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def spans(lines: list[str] = LINES) -> list[str]:
    return [span for line in lines for span in CODE_SPAN.findall(line)]


@cache
def instance(cls: type):
    """Of the two classes whose layers and parameters the document names."""
    model = build_scopenet()
    return {ScopeNet: model, ScopeHead: model.head}[cls]


def resolve(path: str, name: str) -> None:
    """Raises ImportError or AttributeError unless the module ``path`` has ``name``."""
    path = path if "/" in path else f"scopenet/modeling/{path}"
    found = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        if found in (ScopeNet, ScopeHead) and not hasattr(found, part):
            found = instance(found)
        found = getattr(found, part)


def full_key(key: str) -> str:
    is_own = "." not in key
    return f"MODEL.SCOPENET.{key}" if is_own else key


def value_of(cfg: CfgNode, key: str):
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


@cache
def load(name: str) -> CfgNode:
    return load_config(f"configs/{name}.yaml")


def test_every_code_span_is_understood():
    patterns = (FUNCTION, KEY, TABLE_CONFIG, FOLDER_OR_FILE)
    unknown = {span for span in spans() if not any(p.fullmatch(span) for p in patterns)}
    assert {x for x in unknown if x not in DatasetCatalog} == OTHERS


FUNCTIONS = sorted({m.groups() for span in spans() if (m := FUNCTION.fullmatch(span))})


@pytest.mark.parametrize("path, name", FUNCTIONS, ids=map(":".join, FUNCTIONS))
def test_function_exists(path, name):
    resolve(path, name)


@pytest.mark.parametrize(
    "path, name",
    [
        ("bins.py", "bin_edge"),
        ("bin.py", "bin_edges"),
        ("head.py", "ScopeHead.cls_scores"),
        ("scopenet/engine/trainer.py", "Trainer.build_optimiser"),
    ],
)
def test_function_that_does_not_exist(path, name):
    with pytest.raises((ImportError, AttributeError)):
        resolve(path, name)


def test_files_exist():
    paths = [span for span in spans() if FOLDER_OR_FILE.fullmatch(span)]
    paths = [x for x in paths if not TABLE_CONFIG.fullmatch(x)]
    assert len(paths) > 5 and [x for x in paths if not (ROOT / x).exists()] == []


def test_table_configs_exist():
    names = {span for span in spans() if TABLE_CONFIG.fullmatch(span)}
    names |= {row["config"] for row in FIGURES} - {""}
    missing = [x for x in names if not (config_dir() / "paper" / f"{x}.yaml").is_file()]
    assert len(names) == 27 and missing == []


def test_keys_exist():
    known = set(all_keys(load_config()))
    keys = {full_key(m[1]) for span in spans() if (m := KEY.fullmatch(span))}
    assert len(keys) > 30 and keys - known == set()


LINES_WITH_VALUES = [
    line for line in LINES if any((m := KEY.fullmatch(span)) and m[2] for span in spans([line]))
]


@pytest.mark.parametrize("line", LINES_WITH_VALUES, ids=lambda line: line[2:40])
def test_values_are_those_of_the_configs(line):
    names = [f"paper/{span}" for span in spans([line]) if TABLE_CONFIG.fullmatch(span)]
    for span in spans([line]):
        match = KEY.fullmatch(span)
        if not (match and match[2]):
            continue
        key = full_key(match[1])
        expected = value_of(load_config("", [key, match[2]]), key)
        for name in names or ["ScopeNet_R_50_FPN_1x"]:
            assert value_of(load(name), key) == expected, (name, key)


def test_numbered_entries():
    defined = [m[1] for line in LINES if (m := re.match(r"\| ([DC]\d+) \|", line))]
    by_letter = {x: [int(d[1:]) for d in defined if d[0] == x] for x in "DC"}
    for numbers in by_letter.values():
        assert numbers == list(range(1, len(numbers) + 1))
    assert set(re.findall(r"\b[DC]\d+\b", "\n".join(LINES))) == set(defined)


# The paper's figures.


def test_figures_are_well_formed():
    header = ["table", "config", "label", *AP, "AR10", "AR100", "source"]
    assert all(list(row) == header and None not in row.values() for row in FIGURES)
    tables = [row["table"] for row in FIGURES]
    assert tables == sorted(tables)
    assert [tables.count(x) for x in "123456"] == [3, 10, 3, 4, 6, 14]
    printed = {"3": ["AP", "AP50", "AP75", "AR10", "AR100"], "4": ["AP"]}
    for row in FIGURES:
        assert row["label"] and row["source"].startswith(f"paper, table {row['table']}")
        given = [x for x in (*AP, "AR10", "AR100") if row[x]]
        assert given == printed.get(row["table"], AP)
        assert all(re.fullmatch(r"\d\d\.\d", row[x]) for x in given)
        if row["AP75"]:
            assert float(row["AP"]) < float(row["AP75"]) < float(row["AP50"])
            assert not row["APs"] or row["APs"] < row["APm"] < row["APl"]
        assert not row["config"] or row["config"].startswith(f"table{row['table']}/")
    assert len({(row["table"], row["label"]) for row in FIGURES}) == len(FIGURES)
    quoted = [row for row in FIGURES if not row["config"]]
    assert len(quoted) == 13 and all("cites [" in row["source"] for row in quoted)


@pytest.mark.parametrize(
    "config, ap",
    [
        ("table1/direct_regression", "35.8"),
        ("table1/multiple_anchors", "37.2"),
        ("table1/guided_score", "38.0"),
        ("table3/no_p_loc", "37.2"),
        ("table3/p_loc", "37.7"),
        ("table3/p_loc_sigma2", "38.0"),
        ("table4/baseline", "38.0"),
        ("table4/custom_fpn", "38.1"),
        ("table4/nms_0.6", "38.4"),
        ("table4/gn", "39.4"),
        ("table5/retinanet_400", "30.6"),
        ("table5/scopenet_400", "32.5"),
        ("table5/retinanet_600", "34.3"),
        ("table5/scopenet_600", "35.9"),
        ("table5/retinanet_800", "35.8"),
        ("table5/scopenet_800", "38.0"),
        ("table6/ScopeNet_R_101_FPN_2x", "43.4"),
    ],
)
def test_ap_of_the_paper(config, ap):
    assert [row["AP"] for row in FIGURES if row["config"] == config] == [ap]


def test_recall_of_the_paper():
    found = [(row["AR10"], row["AR100"]) for row in FIGURES if row["table"] == "3"]
    assert found == [("51.7", "54.8"), ("52.3", "55.1"), ("52.5", "55.4")]


@pytest.mark.parametrize(
    "configs",
    [
        ("table1/direct_regression", "table2/num1"),
        ("table1/multiple_anchors", "table2/size1_num5", "table3/no_p_loc"),
        ("table1/guided_score", "table3/p_loc_sigma2", "table4/baseline", "table5/scopenet_800"),
    ],
)
def test_rows_of_one_model_agree(configs):
    rows = [next(row for row in FIGURES if row["config"] == config) for config in configs]
    for metric in AP:
        assert len({row[metric] for row in rows} - {""}) == 1
