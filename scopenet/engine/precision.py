"""What runs one iteration, in the precision that a config asks for."""

import logging

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from ..errors import ConfigError
from .accumulation import MixedPrecisionStepTrainer, StepTrainer


def cpu_has_bfloat16() -> bool:
    """Tell whether this processor multiplies in bfloat16 itself; others would only emulate it."""
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    # The names that PyTorch had for it before that function.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def autocast_in_training(model: nn.Module, device: str) -> None:
    """Make the forward passes of training on this kind of device run in bfloat16, which needs no
    loss scaling: a gradient that is not finite is none of a search for the scale."""
    autocast = torch.autocast(device, torch.bfloat16)

    def enter(module: nn.Module, inputs: tuple) -> None:
        if module.training:
            autocast.__enter__()

    def leave(module: nn.Module, inputs: tuple, outputs: dict) -> None:
        if module.training:
            autocast.__exit__(None, None, None)

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)


def losses_in_float32(detector: DenseDetector) -> RemovableHandle:
    """Make the outputs of the head float32 again: the losses of Detectron2's own detectors are then
    computed in float32, as those of ScopeNet are, and FCOS's fail in anything else."""
    return detector.head.register_forward_hook(
        lambda head, inputs, outputs: [[x.float() for x in maps] for maps in outputs]
    )


def build_step_trainer(cfg: CfgNode, model, data_loader, optimizer) -> SimpleTrainer:
    """Make what runs one iteration, in the precision that ``cfg.SOLVER.AMP`` and the parts that
    ``cfg.SOLVER.ACCUMULATION`` asks for; raise a ConfigError for what there is not."""
    precisions = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    if cfg.SOLVER.AMP.PRECISION not in precisions:
        raise ConfigError(
            f'SOLVER.AMP.PRECISION is "{cfg.SOLVER.AMP.PRECISION}"; use one of {[*precisions]}.'
        )
    detector = model.module if isinstance(model, DistributedDataParallel) else model
    if cfg.SOLVER.AMP.ENABLED and isinstance(detector, DenseDetector):
        losses_in_float32(detector)
    device, precision = torch.device(cfg.MODEL.DEVICE).type, precisions[cfg.SOLVER.AMP.PRECISION]
    if cfg.SOLVER.AMP.ENABLED and device == "cuda" and precision == torch.float16:
        trainer = MixedPrecisionStepTrainer(model, data_loader, optimizer, precision=precision)
    else:
        if cfg.SOLVER.AMP.ENABLED and (device != "cpu" or cpu_has_bfloat16()):
            autocast_in_training(model, device)
        elif cfg.SOLVER.AMP.ENABLED:
            logging.getLogger(__name__).info("No bfloat16 in this processor: training in float32.")
        trainer = StepTrainer(model, data_loader, optimizer)
    trainer.accumulate(cfg.SOLVER.ACCUMULATION, cfg.SOLVER.IMS_PER_BATCH)
    return trainer
