"""A GPU that is pretended on the CPU: which tensors would be on it, and where it and the processor
would have to wait for each other.

Parameters and buffers are on it, what is moved by ``to``, and every result of one that is. Inputs
and tensors made without a device are not. An operation on both would fail on a real one, and does
here, too.
"""

import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# The size of their result, or a value that Python goes on with, is known to the GPU only.
WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nms",
    "nonzero",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
MAKING = {"tensor", "as_tensor", "arange", "zeros", "ones", "full"}
READING = {"tolist", "cpu", "numpy", "item"}


def _place() -> str:
    """Name the innermost line of the project or of Detectron2 and the one that called it."""
    frames = [
        f"{'/'.join(x.filename.split('/')[-2:])}:{x.lineno}"
        for x in traceback.extract_stack()
        if ("scopenet/" in x.filename or "detectron2/" in x.filename) and "tests/" not in x.filename
    ]
    return " < ".join(frames[:-3:-1])


def _is_bool(x) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.bool


class _Gpu(TorchDispatchMode):
    """Follows tensors by the address of their memory."""

    def __init__(self):
        super().__init__()
        self.device, self.host = set(), set()  # addresses; what is in neither fits both
        self.waits: Counter = Counter()

    def put(self, tensors: Iterable[Tensor], on_device: bool | None) -> None:
        for x in tensors:
            address = x.untyped_storage().data_ptr()
            self.device.discard(address)
            self.host.discard(address)
            if address and on_device is not None:
                (self.device if on_device else self.host).add(address)

    def has(self, x: Tensor) -> bool:
        return x.untyped_storage().data_ptr() in self.device

    def waits_at(self, name: str) -> None:
        self.waits[f"{name} {_place()}"] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.__name__.split(".")[0]
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        here = [x for x in tensors if self.has(x)]
        there = [x for x in tensors if x.untyped_storage().data_ptr() in self.host and x.dim() > 0]
        if here:
            waits = name in WAITING
            if name in INDEXING:
                waits = bool(there) or any(map(_is_bool, args[1]))
            elif there and name != "copy_":
                raise RuntimeError(f"{name} of tensors on two devices at {_place()}")
            waits |= name == "repeat_interleave" and kwargs.get("output_size") is None
            if waits or (name == "copy_" and there):
                self.waits_at(name)
        result = func(*args, **kwargs)
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        is_known = any(x.untyped_storage().data_ptr() in self.host for x in tensors)
        if not (name.endswith("_") and not name.startswith("_")):
            self.put(made, True if here else False if is_known else None)
        return result


class _Calls(TorchFunctionMode):
    """Sees what the dispatcher does not: copies from and to a device that is the CPU."""

    def __init__(self, gpu: _Gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == "to" and (target := self._target(args[1:], kwargs)) is not None:
            x = args[0]
            if target == self.gpu.has(x):
                return func(*args, **kwargs)
            if not kwargs.get("non_blocking"):
                self.gpu.waits_at("to")
            moved = func(*args, **kwargs).clone()
            self.gpu.put([moved], target)
            return moved
        if name in READING and self.gpu.has(args[0]) and name != "item":
            self.gpu.waits_at(name)
        result = func(*args, **kwargs)
        if name == "cpu":
            result = result.clone()
            self.gpu.put([result], False)
        if name in MAKING and kwargs.get("device") is None:
            self.gpu.put([result], False)
        elif name in ("tensor", "as_tensor"):  # of values in Python
            self.gpu.waits_at(name)
        return result

    def _target(self, args: tuple, kwargs: dict) -> bool | None:
        """Tell whether ``to`` moves to the GPU or from it; None if it does neither."""
        for x in (*args, *kwargs.values()):
            if isinstance(x, Tensor):
                return self.gpu.has(x)
            if isinstance(x, (torch.device, str)):
                return True
        return None


@contextmanager
def pretended_gpu(model: nn.Module, inputs: Iterable[Tensor]) -> Iterator[Counter]:
    """Pretend that ``model`` is on a GPU and ``inputs`` are not; count, by operation and place,
    where either has to wait for the other."""
    gpu = _Gpu()
    gpu.put([*model.parameters(), *model.buffers()], True)
    gpu.put(inputs, False)
    with _Calls(gpu), gpu:
        yield gpu.waits
