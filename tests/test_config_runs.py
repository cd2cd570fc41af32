"""Every config of the project trains two iterations and evaluates, in miniature."""

import math

import pytest
from miniature import CLASSES, job, lazy_overrides, mini_datasets, mini_overrides, one_thread

from scopenet.config_file import config_dir
from scopenet.engine.command import main

FILES = [
    path
    for path in sorted(config_dir().rglob("*.*"))
    if path.suffix in (".yaml", ".py") and path.name != "__init__.py"
    # Small ones of the second train in tests/test_builtin_backbones.py.
    if path.parent.name not in ("presets", "backbones")
]
# Detectron2's ResNet-18 has one width only.
R_18 = ["MODEL.RESNETS.STEM_OUT_CHANNELS", "64", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
R_18 += ["MODEL.RESNETS.WIDTH_PER_GROUP", "64"]
# Two columns of p6, see docs/performance.md on bfloat16: these configs train in it.
IN_BFLOAT16 = (
    "BrightDigits-ScopeNet_R_18_FPN",
    "Digits-ScopeNet_R_18_FPN",
    "OwnData-CPU-ScopeNet_R_50_FPN_GN",
)
LARGER = ["INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MAX_SIZE_TRAIN", "192"]
ONE_SIZE = ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice"]
WIDE = ["MODEL.SCOPENET.CONV_DIM", "64"]  # GroupNorm needs two values per group on 1 x 1 maps
RETINANET = ["MODEL.RETINANET.NUM_CLASSES", str(len(CLASSES))]


@pytest.fixture(scope="module", autouse=True)
def miniature(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


def yaml_overrides(path, output_dir) -> list[str]:
    more = [*WIDE, *ONE_SIZE]
    more += RETINANET if path.stem.lower().startswith("retinanet") else []
    more += R_18 if "R_18" in path.name else []
    more += LARGER if path.stem in IN_BFLOAT16 else []
    return mini_overrides(output_dir, *more)


def without_checkpoints(monkeypatch) -> None:
    """They are large, and tested elsewhere."""
    monkeypatch.setattr("scopenet.engine.checkpoint.SafeCheckpointer.save", lambda *_, **__: None)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(config_dir())))
def test_config_trains_and_evaluates(path, tmp_path, monkeypatch):
    without_checkpoints(monkeypatch)
    losses = []
    is_lazy = path.suffix == ".py"
    overrides = lazy_overrides(tmp_path) if is_lazy else yaml_overrides(path, tmp_path)

    def record(loss_dict, *_, **__):
        losses.append(sum(loss.item() for loss in loss_dict.values()))

    monkeypatch.setattr("detectron2.engine.SimpleTrainer.write_metrics", staticmethod(record))
    results = main(job(str(path), *overrides))
    assert len(losses) == 2 and all(math.isfinite(x) and x > 0 for x in losses)
    assert "AP75" in results["bbox"]
