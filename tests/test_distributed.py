"""Two workers give the gradient of one worker with the joint batch, whoever has the positives and
in how many parts they take theirs."""

from argparse import Namespace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from builders import build_scopenet, ground_truth, random_boxes
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from scopenet.engine.accumulation import MicroBatches
from scopenet.engine.launch import launch

NUM_WORKERS = 2

# Boxes per image of each worker's batch; the padded size is the same for all, or the joint batch
# would have other locations.
CASES = {
    "uneven": [[5, 1], [2, 0]],
    "first_without": [[0, 0], [3, 2]],
    "second_without": [[4, 1], [0, 0]],
    "none": [[0, 0], [0, 0]],
    "only_localization": [["far", 0], [0, 0]],
    "near_and_far": [["far", 0], [1, 0]],
}
OPTIONS = {
    "default": {},
    "baseline": {"num_bins": 1, "uncertainty": False},
    "group_norm": {"norm": "GN", "conv_dim": 64},
}
# Its centre is half a stride of p3 away from every cell centre: no positive with a radius of 0.4.
FAR = torch.tensor([[10.0, 10.0, 38.0, 38.0]])


def batch_of(case: str, worker: int) -> list[dict]:
    inputs = []
    for i, num_boxes in enumerate(CASES[case][worker]):
        seed = 10 * worker + i
        generator = torch.Generator().manual_seed(seed)
        boxes = random_boxes(num_boxes, 64, 64, seed) if num_boxes != "far" else FAR
        inputs.append(
            {
                "image": torch.rand(3, 64, 64, generator=generator) * 255,
                "instances": ground_truth(boxes, [j % 3 for j in range(len(boxes))], (64, 64)),
            }
        )
    return inputs


def build_model(options: str):
    return build_scopenet((8, 16), center_radius_cls=0.4, **OPTIONS[options])


def gradients(model, batch: list[dict], forward=None) -> dict[str, torch.Tensor]:
    losses = (forward or model)(batch)
    sum(losses.values()).backward()
    return {
        name.removeprefix("module."): parameter.grad.cpu()
        for name, parameter in model.named_parameters()
    }


def noted_allreduce(seen: list, bucket):
    seen.append(bucket.index())
    return allreduce_hook(None, bucket)


def run_worker(rank: int, folder: str, device: str) -> None:
    torch.set_num_threads(1)
    place = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
        torch.backends.cudnn.allow_tf32 = False
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=NUM_WORKERS,
        timeout=timedelta(seconds=60),
    )
    results = {}
    for options in OPTIONS:
        for case in CASES:
            # Without find_unused_parameters: a parameter without gradient is an error.
            model = DistributedDataParallel(build_model(options).to(place))
            results[options, case, 1] = gradients(model, batch_of(case, rank))
            exchanged = []
            model.register_comm_hook(exchanged, noted_allreduce)
            in_parts = MicroBatches(model, 2, lambda loss: loss)
            model.zero_grad()
            results[options, case, 2] = gradients(model, batch_of(case, rank), in_parts)
            assert len(exchanged) == 1  # small enough for one message
            # The divisors must not be exchanged where only one worker validates.
            if rank == 0:
                model.module.validation_losses(batch_of(case, rank))
    torch.save(results, f"{folder}/gradients_{rank}.pth")
    distributed.destroy_process_group()


def workers_gradients_in(folder: Path, device: str) -> list[dict]:
    """Of all cases by (options, case), computed by the same two processes."""
    torch.multiprocessing.spawn(run_worker, args=(str(folder), device), nprocs=NUM_WORKERS)
    return [
        torch.load(folder / f"gradients_{rank}.pth", weights_only=True)
        for rank in range(NUM_WORKERS)
    ]


def assert_workers_match(
    workers_gradients: list[dict], options: str, case: str, parts: int, device: str
) -> None:
    joint = batch_of(case, 0) + batch_of(case, 1)
    expected = gradients(build_model(options).to(device), joint)
    for of_worker in workers_gradients:
        found = of_worker[options, case, parts]
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * scale)
    assert expected["head.cls_score.weight"].any()
    assert expected["head.border_pred.weight"].any() == any(any(x) for x in CASES[case])


@pytest.fixture(scope="module")
def workers_gradients(tmp_path_factory):
    return workers_gradients_in(tmp_path_factory.mktemp("workers"), "cpu")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("parts", [1, 2])
def test_workers_give_the_gradient_of_the_joint_batch(workers_gradients, options, case, parts):
    assert_workers_match(workers_gradients, options, case, parts, "cpu")


def test_a_worker_leaves_its_group(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    was_open = []
    job = Namespace(num_gpus=1, num_machines=1, machine_rank=0, dist_url="auto")
    try:
        launch(lambda args: was_open.append(distributed.is_initialized()), job, "cpu")
        assert was_open == [True] and not distributed.is_initialized()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
