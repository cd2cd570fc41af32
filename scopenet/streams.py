"""Working on many images at the same time without holding more than a few of them: results come in
the order of the images, however many there are."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(
    function: Callable[[T], R], items: Iterable[T], executor: Executor, ahead: int
) -> Iterator[R]:
    """Map as ``Executor.map`` does, but take at most ``ahead`` items that nobody has asked for yet,
    at least 1: items may go on forever, and results fill the memory."""
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def map_batches(
    function: Callable[[list[T]], Iterable[R]],
    items: Iterable[T],
    *,
    key: Callable[[T], Hashable],
    batch_size: int,
    ahead: int,
) -> Iterator[R]:
    """Map items in batches of one key each, and yield the results in the order of the items.

    Args:
        function: from a batch to its results, in its order.
        batch_size: of full batches.
        ahead: a batch is no longer waited for when so many items are taken whose results have not
            been yielded; at least ``batch_size``.
    """
    groups: dict[Hashable, list[tuple[int, T]]] = {}  # the one with the oldest item comes first
    done: dict[int, R] = {}
    num_taken = num_yielded = 0

    def run(name: Hashable) -> None:
        indices, batch = zip(*groups.pop(name), strict=True)
        done.update(zip(indices, function(list(batch)), strict=True))

    for item in items:
        name = key(item)
        groups.setdefault(name, []).append((num_taken, item))
        num_taken += 1
        if len(groups[name]) == batch_size:
            run(name)
        elif num_taken - num_yielded >= ahead:
            run(next(iter(groups)))
        while num_yielded in done:
            yield done.pop(num_yielded)
            num_yielded += 1
    while groups:
        run(next(iter(groups)))
    yield from (done[i] for i in range(num_yielded, num_taken))
