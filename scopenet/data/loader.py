"""A training loader whose every batch is a function of (seed, iteration).

Detectron2's sampler starts anew after a resume and its augmentations draw from whatever state the
worker is in. Here batches are built from indices and augmentation is seeded by
(seed, iteration, index), so that a run can continue where it stopped, with any number of workers.
"""

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError
from ..images import check_png
from ..signals import leave_signals_to_trainer
from .unreadable import unreadable_image
from .usable_boxes import drop_unusable_boxes

# Under this key a sample names the files that it takes the place of, and why; a sample of nothing
# else stands for no readable image at all.
UNREADABLE = "unreadable_images"
BLANK_SIZE = (64, 64)  # px, of what stands for an unreadable image in evaluation


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


def map_image(mapper: Callable[[dict], dict], sample: dict) -> dict:
    """What ``mapper`` makes of the image; any exception where its file is damaged."""
    if "file_name" in sample:
        check_png(sample["file_name"])
    return mapper(sample)


class SeededDataset(Dataset):
    """Maps a (seed, iteration, index) to the mapped, augmented image ``index``."""

    def __init__(
        self, dicts: Sequence[dict], mapper: Callable[[dict], dict], *, max_unreadable: int = 0
    ):
        # Serialized, so that loader processes share one copy (https://github.com/pytorch/pytorch/
        # issues/13246).
        self.dicts = DatasetFromList(dicts, copy=False)
        self.mapper = mapper
        self.max_unreadable = max_unreadable

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, key: tuple[int, int, int]) -> dict:
        """The image; where its file is unreadable, another one, which (seed, iteration, index)
        decides on as well. See :data:`UNREADABLE` for what is said of such files."""
        seed, iteration, _ = key
        unreadable: dict[str, str] = {}
        for index in self._candidates(key):
            sample = self.dicts[index]
            try:
                with seeded_rng(seed, iteration, index):
                    mapped = map_image(self.mapper, sample)
            except Exception:
                problem = unreadable_image(sample)
                if not problem:  # it is something else that went wrong
                    raise
                unreadable[sample["file_name"]] = problem
                if len(unreadable) > self.max_unreadable:
                    break
            else:
                return mapped | {UNREADABLE: unreadable} if unreadable else mapped
        return {UNREADABLE: unreadable}

    def _candidates(self, key: tuple[int, int, int]) -> Iterator[int]:
        yield key[-1]
        order = np.random.default_rng(key).permutation(len(self.dicts)).tolist()
        yield from (index for index in order if index != key[-1])


class ReportingLoader(DataLoader):
    """A loader that logs every unreadable image file once, and stops where they are too many.

    Attributes:
        max_unreadable: how many different ones may be met in this process.
    """

    max_unreadable = 0

    def __iter__(self) -> Iterator[list[dict]]:
        met: set[str] = set()
        for batch in super().__iter__():
            for sample in batch:
                for file_name, problem in sample.pop(UNREADABLE, {}).items():
                    if file_name not in met:
                        met.add(file_name)
                        self._report(file_name, problem, len(met))
            if not all(batch):
                raise ConfigError(
                    "No image of the training set can be read; check_dataset.py says why."
                )
            yield batch

    def _report(self, file_name: str, problem: str, number: int) -> None:
        if number > self.max_unreadable:
            raise ConfigError(
                f"{number} images cannot be read, the last is {file_name} ({problem}); mend them "
                "(check_dataset.py lists them) or raise DATALOADER.MAX_UNREADABLE_IMAGES, now "
                f"{self.max_unreadable}."
            )
        logging.getLogger(__name__).warning(
            f"{file_name} cannot be read ({problem}): training takes another image in its place, "
            f"evaluation a blank one. These are {number} so far, {self.max_unreadable} may be."
        )


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
    max_unreadable: int = 0,
) -> DataLoader:
    """The training loader, which leaves out unusable boxes; ``loader.batch_sampler.start_iter``
    sets where it starts.

    Args:
        dataset: dicts in Detectron2's format.
        mapper: e.g. ``DatasetMapper(cfg, is_train=True)``.
        total_batch_size: images of an iteration over all workers.
        seed: >= 0, equal in all workers.
        num_workers: loader processes of each worker.
        aspect_ratio_grouping: batches hold either wide or high images only, but for those that
            take the place of an unreadable one.
        max_unreadable: see :class:`ReportingLoader`.

    Raises:
        ConfigError: see :class:`SeededBatchSampler`; and from the loader, too many images cannot be
            read.
    """
    is_wide = [x["width"] > x["height"] for x in dataset] if aspect_ratio_grouping else None
    sampler = SeededBatchSampler(len(dataset), total_batch_size, seed, is_wide)
    loader = ReportingLoader(
        SeededDataset(drop_unusable_boxes(dataset), mapper, max_unreadable=max_unreadable),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_as_list,
        persistent_workers=num_workers > 0,
        worker_init_fn=leave_signals_to_trainer,
        generator=torch.Generator(),  # the loader takes nothing from the random states of training
    )
    loader.max_unreadable = max_unreadable
    return loader


class EvaluationDataset(Dataset):
    """Every image once and as it is; an unreadable one is blank, and :data:`UNREADABLE` says so."""

    def __init__(self, dicts: Sequence[dict], mapper: Callable[[dict], dict]):
        self.dicts = DatasetFromList(dicts, copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, index: int) -> dict:
        sample = self.dicts[index]
        try:
            return map_image(self.mapper, sample)
        except Exception:
            problem = unreadable_image(sample)
            if not problem:
                raise
        # Without annotations, so that no loss is computed of it.
        kept = {k: v for k, v in sample.items() if k != "annotations"}
        blank = torch.zeros((3, *BLANK_SIZE), dtype=torch.uint8)
        return kept | {"image": blank, UNREADABLE: {sample["file_name"]: problem}}


def build_validation_loader(
    dataset: Sequence[dict],
    *,
    mapper: Callable[[dict], dict],
    batch_size: int = 1,
    num_workers: int = 0,
    max_unreadable: int = 0,
) -> DataLoader:
    """Detectron2's test loader, which stops at unreadable images only where they are too many.

    Args:
        mapper: for AP ``DatasetMapper(cfg, is_train=False)``; for losses one that keeps labels.
        batch_size: images of one batch of this process.
        dataset, num_workers, max_unreadable: see :func:`build_train_loader`.
    """
    loader = ReportingLoader(
        EvaluationDataset(dataset, mapper),
        sampler=InferenceSampler(len(dataset)),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_as_list,
        worker_init_fn=leave_signals_to_trainer,
        generator=torch.Generator(),
    )
    loader.max_unreadable = max_unreadable
    return loader
