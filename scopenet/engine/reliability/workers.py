"""What workers decide together, and the key-value store in which they meet."""

import time
import uuid

import torch
from detectron2.utils import comm
from torch import distributed
from torch.distributed import PrefixStore, Store

POLL_SECONDS = 0.05


def any_worker(flag: bool) -> bool:
    """Tell whether ``flag`` is set in some worker; all of them have to call it."""
    if comm.get_world_size() == 1:
        return flag
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    flags = torch.tensor(float(flag), device=device)
    distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
    return bool(flags.item())


def fresh_store(store: Store, rank: int, size: int) -> Store:
    """Put ``store`` under a prefix that the workers of this start agree on; all have to call it.

    torchrun keeps its store when it starts workers again, and in it the addresses of the dead. How
    often it has started them does not tell one start from another: on several machines the counts
    may differ.

    A worker leaves a name that nobody has used before, and waits for an answer to it; the first
    worker answers until every other one has thanked it.
    """
    name = uuid.uuid4().hex
    if rank > 0:
        store.set(f"name_of_{rank}", name)
        prefix = store.get(f"answer_to_{name}").decode()  # waits for it
        store.set(f"thanks_of_{rank}_to_{prefix}", "")
        return PrefixStore(prefix, store)
    pending = set(range(1, size))
    while pending:
        for other in sorted(pending):
            if store.check([f"thanks_of_{other}_to_{name}"]):
                pending.remove(other)
            elif store.check([f"name_of_{other}"]):  # perhaps still that of a dead one
                store.set(f"answer_to_{store.get(f'name_of_{other}').decode()}", name)
        time.sleep(POLL_SECONDS)
    return PrefixStore(name, store)
