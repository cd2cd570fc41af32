"""What all workers of a training decide together."""

import torch
from detectron2.utils import comm
from torch import distributed


def any_worker(flag: bool) -> bool:
    """Tell whether ``flag`` is set in some worker; all of them have to call it."""
    if comm.get_world_size() == 1:
        return flag
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    flags = torch.tensor(float(flag), device=device)
    distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
    return bool(flags.item())
