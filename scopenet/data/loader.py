"""A training loader whose every batch is a function of (seed, iteration).

Detectron2's sampler starts anew after a resume and its augmentations draw from whatever state the
worker is in. Here batches are built from indices and augmentation is seeded by
(seed, iteration, index), so that a run can continue where it stopped, with any number of workers.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..config_file import ConfigError
from ..signals import leave_signals_to_trainer


def shuffled_indices(size: int, seed: int) -> Iterator[int]:
    """0 ... size - 1 in a new random order, again and again without end."""
    for epoch in count():
        yield from np.random.default_rng((seed, epoch)).permutation(size).tolist()


class SeededBatchSampler(Sampler):
    """Endless batches of (seed, iteration, index), this worker's share of each.

    All workers walk the same stream and take their slice of every batch, so that N workers together
    see the batches of one. With orientations given, a batch holds images of one orientation only:
    less padding.

    Attributes:
        start_iter: the iteration of the first batch; set it before iterating.
    """

    def __init__(self, size: int, batch_size: int, seed: int, is_wide: Sequence[bool] | None):
        """
        Args:
            size: number of images.
            batch_size: over all workers; must be a multiple of their number.
            seed: of the order and of the augmentation.
            is_wide: for each image whether it is wider than high; None to mix orientations.

        Raises:
            ConfigError: no images, or a batch size that cannot be shared by the workers.
        """
        self.num_workers, self.rank = comm.get_world_size(), comm.get_rank()
        if size == 0:
            raise ConfigError("The training set has no images.")
        if batch_size <= 0 or batch_size % self.num_workers:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH {batch_size} must be a positive multiple of the number of "
                f"worker processes, {self.num_workers}."
            )
        self.size, self.batch_size, self.seed, self.is_wide = size, batch_size, seed, is_wide
        self.start_iter = 0

    def _global_batches(self) -> Iterator[list[int]]:
        groups: dict[bool, list[int]] = {False: [], True: []}
        for index in shuffled_indices(self.size, self.seed):
            group = groups[bool(self.is_wide and self.is_wide[index])]
            group.append(index)
            if len(group) == self.batch_size:
                yield group.copy()
                group.clear()

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        batches = islice(enumerate(self._global_batches()), self.start_iter, None)
        for iteration, batch in batches:
            mine = batch[self.rank :: self.num_workers]
            yield [(self.seed, iteration, index) for index in mine]


@contextmanager
def seeded_rng(*key: int) -> Iterator[None]:
    """Python's, numpy's and torch's global generators seeded by ``key``, restored afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


class SeededDataset(Dataset):
    """Maps a (seed, iteration, index) to the mapped, augmented image ``index``."""

    def __init__(self, dicts: Sequence[dict], mapper: Callable[[dict], dict]):
        # Serialized, so that loader processes share one copy (https://github.com/pytorch/pytorch/
        # issues/13246).
        self.dicts = DatasetFromList(dicts, copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, key: tuple[int, int, int]) -> dict:
        with seeded_rng(*key):
            return self.mapper(self.dicts[key[-1]])


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


def build_train_loader(
    dataset: Sequence[dict],
    *,
    mapper: Callable[[dict], dict],
    total_batch_size: int,
    seed: int,
    num_workers: int = 0,
    aspect_ratio_grouping: bool = True,
) -> DataLoader:
    """The training loader; ``loader.batch_sampler.start_iter`` sets where it starts.

    Args:
        dataset: dicts in Detectron2's format.
        mapper: e.g. ``DatasetMapper(cfg, is_train=True)``.
        total_batch_size: images of an iteration over all workers.
        seed: >= 0, equal in all workers.
        num_workers: loader processes of each worker.
        aspect_ratio_grouping: batches hold either wide or high images only.

    Raises:
        ConfigError: see :class:`SeededBatchSampler`.
    """
    is_wide = [x["width"] > x["height"] for x in dataset] if aspect_ratio_grouping else None
    sampler = SeededBatchSampler(len(dataset), total_batch_size, seed, is_wide)
    return DataLoader(
        SeededDataset(dataset, mapper),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_as_list,
        persistent_workers=num_workers > 0,
        worker_init_fn=leave_signals_to_trainer,
    )
