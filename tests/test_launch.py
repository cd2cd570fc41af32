"""How the worker processes are started: their process group fits the device, and is patient."""

import os
from argparse import Namespace

import pytest
import torch
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import distributed

from scopenet import ConfigError
from scopenet.engine import launch
from scopenet.engine.launch import check_num_workers

JOB = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(launch, "available_cores", lambda: 2)


@pytest.mark.parametrize("num_gpus, is_enough", [(4, True), (5, False), (1, True)])
def test_number_of_gpus(four_gpus, num_gpus, is_enough):
    if is_enough:  # GPUs do not need a core each
        check_num_workers(num_gpus, "cuda")
    else:
        with pytest.raises(ConfigError, match="--num-gpus 5, but this machine has 4"):
            check_num_workers(num_gpus, "cuda")


def test_number_of_cores_beside_gpus_that_are_not_used(four_gpus):
    check_num_workers(2, "cpu")
    with pytest.raises(ConfigError, match="--num-gpus 3 would start 3 processes on 2 cores"):
        check_num_workers(3, "cpu")


@pytest.mark.parametrize("device, visible", [("cuda", "0,1"), ("cpu", "")])
def test_started_workers_see_the_gpus_that_they_use(four_gpus, monkeypatch, device, visible):
    """Detectron2 chooses NCCL, which has no collectives of CPU tensors, wherever it sees a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    seen = []

    def spawn(main, num_workers, *, timeout, args, **options):
        seen.append((os.environ["CUDA_VISIBLE_DEVICES"], num_workers, timeout))

    monkeypatch.setattr(launch, "spawn", spawn)
    launch.launch(print, JOB, device)
    assert seen == [(visible, 2, launch.TIMEOUT)] and launch.TIMEOUT > DEFAULT_TIMEOUT
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_an_unset_variable_is_unset_afterwards(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with launch.hidden_gpus():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    "device, has_gpus, backend",
    [("cuda", True, "nccl"), ("cuda:0", True, "nccl"), ("cpu", True, "gloo"), ("cpu", 0, "gloo")],
)
def test_group_under_torchrun(monkeypatch, device, has_gpus, backend):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpus)
    places, groups = [], []
    monkeypatch.setattr(torch.cuda, "set_device", places.append)
    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "x"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(distributed, "rendezvous", lambda url: iter([("store", 1, 2)]))
    monkeypatch.setattr(launch, "fresh_store", lambda store, rank, size: store)
    monkeypatch.setattr(comm, "create_local_process_group", lambda size: None)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(
        distributed, "init_process_group", lambda backend, **group: groups.append((backend, group))
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the threads of this process stay as they are
    launch.launch(lambda args: None, JOB, device)
    ((found, group),) = groups
    assert found == backend and places == ([1] if backend == "nccl" else [])
    assert group["timeout"] == launch.TIMEOUT and (group["rank"], group["world_size"]) == (1, 2)
