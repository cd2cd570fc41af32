"""Which step runs in which precision, and that loss scaling hides nothing where there is none."""

import pytest
import torch
from builders import random_ground_truth
from detectron2.engine import AMPTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from miniature import TINY
from torch import nn

from benchmark.contestants import STOCK_CONFIGS, build_contestant
from scopenet import load_config
from scopenet.engine.precision import build_step_trainer
from scopenet.engine.reliability.non_finite import NonFiniteGuard, StepSkipped


class Poisoned(nn.Module):
    """A finite loss whose gradient is NaN."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, batch):
        loss = self.weight.sum() * 1.0
        loss.register_hook(lambda gradient: gradient * float("nan"))
        return {"loss": loss}


def step_trainer(device: str, precision: str, model: nn.Module):
    amp = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", precision]
    cfg = load_config("ScopeNet_R_50_FPN_1x.yaml", ["MODEL.DEVICE", device, *amp])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return build_step_trainer(cfg, model, [[{"image_id": 1}]], optimizer)


# A mocked GPU: the model is on the CPU, where an autocast of another device does nothing.
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_bfloat16_on_a_gpu_hides_no_gradient_from_the_guard(tmp_path):
    model = Poisoned()
    trainer = step_trainer("cuda", "bfloat16", model)
    assert not isinstance(trainer, AMPTrainer)  # whose scaler would search for its scale first
    guard = NonFiniteGuard(str(tmp_path), 10, 1)
    guard.watch(model)
    trainer.register_hooks([guard])
    trainer.iter = 0
    with EventStorage(), pytest.raises(StepSkipped):
        trainer.run_step()
    assert (tmp_path / "non_finite" / "iteration_0000000_worker_0.json").is_file()
    assert torch.equal(model.weight, torch.ones(3))


@pytest.mark.filterwarnings("ignore:.*CUDA is not available", "ignore:.*GradScaler")
def test_float16_on_a_gpu_has_loss_scaling():
    trainer = step_trainer("cuda:1", "float16", Poisoned())
    assert isinstance(trainer, AMPTrainer) and trainer.precision == torch.float16


@pytest.mark.filterwarnings("ignore:.*MPS")
def test_loss_scaling_is_for_cuda_only():
    trainer = step_trainer("mps", "float16", Poisoned())  # AMPTrainer would refuse to run
    assert not isinstance(trainer, AMPTrainer)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_losses_of_a_peer_are_in_float32(is_enabled):
    tiny = [*TINY, "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.RETINANET.NUM_CLASSES", "3"]
    tiny += ["SOLVER.AMP.ENABLED", str(is_enabled)]
    cfg = load_config("peers/RetinaNet_R_50_FPN_1x.yaml", tiny)
    model = build_model(cfg)
    build_step_trainer(cfg, model, None, None)
    with torch.autocast("cpu", torch.bfloat16):
        maps = [torch.zeros(1, 32, 2, 2)] * 5
        dtypes = {x.dtype for outputs in model.head(maps) for x in outputs}
    assert dtypes == {torch.float32 if is_enabled else torch.bfloat16}


@pytest.mark.filterwarnings("ignore:.*CUDA is not available", "ignore:.*GradScaler")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_losses_of_detectron2_s_fcos(precision):
    """Its own fail in fewer bits: they mix the dtypes of predictions and ground truth."""
    model = build_contestant("FCOS", STOCK_CONFIGS["FCOS"], "cpu").model
    step_trainer("cuda", precision, model)
    batch = [{"image": torch.zeros(3, 64, 64), "instances": random_ground_truth(3, 80, 64, 64)}]
    with EventStorage(), torch.autocast("cpu", getattr(torch, precision)):
        losses = model(batch)
    assert all(x.dtype == torch.float32 and x.isfinite() for x in losses.values())
