"""Starting the worker processes: GPUs, or CPU processes over gloo, or under torchrun."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from detectron2.engine import launch as spawn
from detectron2.utils import comm

from ..errors import ConfigError
from ..processes import available_cores, forward_to_workers, handled
from .reliability.checkpoint_file import list_checkpoints
from .reliability.workers import fresh_store

# How long a worker waits for the others. While the first one evaluates alone, they do, and COCO's
# evaluation of 100 000 images of hundreds of classes takes longer than the 10 minutes of PyTorch
# and the 30 of Detectron2. One that dies is noticed at once by whoever has started it.
TIMEOUT = timedelta(hours=2)


def is_on_gpus(device: str) -> bool:
    """Tell whether a training with this ``MODEL.DEVICE`` has a GPU for each of its workers."""
    return device.startswith("cuda") and torch.cuda.is_available()


def check_num_workers(num_workers: int, device: str) -> None:
    """Raise a ConfigError for more worker processes than GPUs or, on CPUs, than cores."""
    if is_on_gpus(device):
        if num_workers > torch.cuda.device_count():
            raise ConfigError(
                f"--num-gpus {num_workers}, but this machine has {torch.cuda.device_count()}."
            )
    elif num_workers > available_cores():
        raise ConfigError(
            f"No GPU is used, so --num-gpus {num_workers} would start {num_workers} processes on "
            f"{available_cores()} cores; use --num-gpus {available_cores()} or fewer."
        )


@contextmanager
def hidden_gpus() -> Iterator[None]:
    """Let processes that are started meanwhile see no GPU, for which Detectron2 would choose NCCL,
    whatever the device of the model."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    os.environ[name] = ""
    try:
        yield
    finally:
        del os.environ[name]
        os.environ |= {} if before is None else {name: before}


def _worker(main: Callable, args, num_workers: int, device: str) -> None:
    if not is_on_gpus(device) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cores() // num_workers))
    main(args)


def go_on_after_restart(args, output_dir: str) -> None:
    """Set ``args.resume`` in workers that torchrun has started again; raise a ConfigError if they
    could go on from what an earlier training has left there."""
    if args.resume or int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) == 0:
        return
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if restarts == 0 and list_checkpoints(Path(output_dir)):
        raise ConfigError(
            f"{output_dir} has checkpoints, and workers that are started again (--max-restarts) "
            "could not tell them from those of this training; go on from them by --resume or set "
            "another OUTPUT_DIR."
        )
    args.resume = restarts > 0


def _spawned_worker(main: Callable, args, num_workers: int, device: str) -> None:
    _worker(main, args, num_workers, device)
    # Detectron2 leaves the group open, and a process that ends while the threads of its group are
    # still running may be aborted.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _torchrun_worker(main: Callable, args, device: str) -> None:
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if is_on_gpus(device):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(torch.distributed.rendezvous("env://"))
    store = fresh_store(store, rank, size)
    backend = "nccl" if is_on_gpus(device) else "gloo"
    group = {"store": store, "rank": rank, "world_size": size, "timeout": TIMEOUT}
    torch.distributed.init_process_group(backend, **group)
    comm.create_local_process_group(local_size)
    try:
        _worker(main, args, local_size, device)
    finally:
        torch.distributed.destroy_process_group()


def is_under_torchrun() -> bool:
    """Tell whether this process is one of the workers that torchrun has started."""
    return {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def launch(main: Callable, args, device: str) -> None:
    """Call ``main(args)`` in every worker process. Under torchrun (its environment variables are
    set) this process is one of them; otherwise ``args.num_gpus`` processes are started on each of
    ``args.num_machines`` machines. ``device`` is that of the model, ``MODEL.DEVICE``."""
    if is_under_torchrun():
        _torchrun_worker(main, args, device)
        return
    num_workers = max(1, args.num_gpus)
    check_num_workers(num_workers, device)
    is_one = num_workers == 1
    with (
        nullcontext() if is_one else handled(forward_to_workers),
        nullcontext() if is_one or is_on_gpus(device) else hidden_gpus(),
    ):
        spawn(
            _spawned_worker,
            num_workers,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args, num_workers, device),
            timeout=TIMEOUT,
        )
