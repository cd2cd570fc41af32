"""The private names of Detectron2, fvcore and PyTorch that this project builds on: where one is
renamed, something would silently no longer happen."""

import inspect
import platform

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator
from fvcore.common.checkpoint import Checkpointer
from torch import nn
from torch.fx.experimental import _config

from scopenet.engine.precision import cpu_has_bfloat16


@pytest.mark.parametrize(
    "caller, name",
    [
        # SafeCheckpointer: what is overridden is what is called.
        (Checkpointer.load, "self._load_file("),
        (Checkpointer.load, "self._load_model("),
        (DetectionCheckpointer._load_model, "super()._load_model("),
        # CocoEvaluator: average recall, cleaned annotations.
        (COCOEvaluator._eval_predictions, "self._derive_coco_results("),
        (COCOEvaluator._eval_predictions, "self._coco_api,"),
        (COCOEvaluator.__init__, "self._metadata = MetadataCatalog.get(dataset_name)"),
        (COCOEvaluator._eval_predictions, "self._metadata.thing_dataset_id_to_contiguous_id"),
        # Trainer: the results that `DefaultTrainer.train` verifies, and who runs a step.
        (DefaultTrainer.build_hooks, "self._last_eval_results ="),
        (DefaultTrainer.train, "self._last_eval_results)"),
        (DefaultTrainer.run_step, "self._trainer.run_step("),
    ],
)
def test_detectron2_calls_it_by_this_name(caller, name):
    assert name in inspect.getsource(caller)


def test_sizes_of_one_cell_are_not_special_to_the_exporter():
    with _config.patch(backed_size_oblivious=True):
        assert _config.backed_size_oblivious is True


def test_bfloat16_of_this_processor():
    if not hasattr(torch.cpu, "get_capabilities"):
        # Versions before that function, which no longer change.
        assert hasattr(torch.cpu, "_is_avx512_bf16_supported")
        return
    found = torch.cpu.get_capabilities()
    if platform.machine() in ("x86_64", "AMD64"):
        assert {"avx512_bf16", "amx_bf16"} <= found.keys()
    assert cpu_has_bfloat16() == any(found.get(x) for x in ("avx512_bf16", "amx_bf16"))


def test_tensors_have_versions():
    x = nn.Parameter(torch.zeros(2))
    before = x._version
    with torch.no_grad():
        x.add_(1)
    assert x._version == before + 1
    with torch.inference_mode():
        made_here = torch.zeros(2)
    with pytest.raises(RuntimeError):
        made_here._version  # noqa: B018, what FoldedConv2d relies on
