"""Loaders of training, whose every batch is a function of (seed, iteration), and of evaluation.

Detectron2's sampler starts anew after a resume and its augmentations draw from whatever state the
worker is in. Here batches are built from indices and augmentation is seeded by
(seed, iteration, index), so that a run can continue where it stopped, with any number of workers.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import InferenceSampler, RepeatFactorTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError
from ..processes import leave_signals_to_trainer
from .unusable import UNREADABLE, Mapper, drop_unusable_boxes, map_image

# Images of one orientation that come together: what a worker of 8 has of a batch of 16.
GROUP_SIZE = 2
BLANK_SIZE = (64, 64)  # px, of what stands for an unreadable image in evaluation


def shuffled_indices(
    size: int, seed: int, repeat_factors: Sequence[float] | None = None
) -> Iterator[int]:
    """Yield 0 ... size - 1 in a new random order, again and again without end.

    With ``repeat_factors``, each at least 1, an index comes so many times in an epoch: on average,
    as fractions are rounded up or down at random, on which seed and epoch decide.
    """
    factors = np.ones(size) if repeat_factors is None else np.asarray(repeat_factors, float)
    whole = np.floor(factors).astype(int)
    for epoch in count():
        is_up = np.random.default_rng((seed, epoch, 1)).random(size) < factors - whole
        indices = np.repeat(np.arange(size), whole + is_up)
        yield from np.random.default_rng((seed, epoch)).permutation(indices).tolist()


def repeat_factors_of(dicts: Sequence[dict], threshold: float, *, sqrt: bool) -> list[float]:
    """Compute Detectron2's repeat factors: images with a class that is in less than ``threshold``
    of all images, in (0, 1], come more often; the log says how much."""
    labelled = [{"annotations": x.get("annotations", [])} for x in dicts]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        labelled, threshold, sqrt
    ).tolist()
    logging.getLogger(__name__).info(
        f"{sum(x > 1 for x in factors)} of {len(factors)} images have a class that is in less than "
        f"{threshold:g} of all images, and come up to {max(factors):.1f} times an epoch, which is "
        f"{sum(factors):.0f} images."
    )
    return factors


class SeededBatchSampler(Sampler):
    """Endless batches of (seed, iteration, index), of each the part of this worker.

    All workers walk the same stream and take their slice of every batch, so that N workers together
    see the batches of one. To resume, set ``start_iter``, the iteration of the first batch.

    Args:
        size: number of images; none is a ConfigError.
        batch_size: over all workers; what is no multiple of their number is a ConfigError.
        is_wide: for each image whether it is wider than high. Images of one orientation come in
            groups, which are less to pad for a worker whose slice is made of whole ones; the groups
            of a batch are of either orientation. None to mix all.
        group_size: images of a group, whatever the number of workers is.
        repeat_factors: see :func:`shuffled_indices`.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        is_wide: Sequence[bool] | None,
        group_size: int = GROUP_SIZE,
        repeat_factors: Sequence[float] | None = None,
    ):
        self.num_workers, self.rank = comm.get_world_size(), comm.get_rank()
        if size == 0:
            raise ConfigError("The training set has no images.")
        if batch_size <= 0 or batch_size % self.num_workers:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH {batch_size} must be a positive multiple of the number of "
                f"worker processes, {self.num_workers}."
            )
        self.size, self.batch_size, self.seed, self.is_wide = size, batch_size, seed, is_wide
        self.group_size, self.repeat_factors = group_size, repeat_factors
        self.start_iter = 0

    def _grouped_indices(self) -> Iterator[int]:
        groups: dict[bool, list[int]] = {False: [], True: []}
        for index in shuffled_indices(self.size, self.seed, self.repeat_factors):
            group = groups[bool(self.is_wide and self.is_wide[index])]
            group.append(index)
            if len(group) == self.group_size:
                yield from group
                group.clear()

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        indices = islice(self._grouped_indices(), self.start_iter * self.batch_size, None)
        share = self.batch_size // self.num_workers
        for iteration in count(self.start_iter):
            batch = list(islice(indices, self.batch_size))
            mine = batch[self.rank * share :][:share]
            yield [(self.seed, iteration, index) for index in mine]


@contextmanager
def seeded_rng(*key: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators by ``key``, restore them afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(3).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.default_generator.manual_seed(words[2])  # torch.manual_seed would seed GPUs, too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


class ImageDataset(Dataset):
    """Images that are read and mapped when they are asked for."""

    def __init__(self, dicts: Sequence[dict], mapper: Mapper, *, max_unreadable: int):
        # Serialized: loader processes share one copy (github.com/pytorch/pytorch/issues/13246).
        self.dicts = DatasetFromList(dicts, copy=False)
        self.mapper = mapper
        self.max_unreadable = max_unreadable

    def __len__(self) -> int:
        return len(self.dicts)


class SeededDataset(ImageDataset):
    """Maps (seed, iteration, index) to the augmented image ``index`` or, if that is unreadable, to
    another one, on which (seed, iteration, index) decides as well."""

    def __getitem__(self, key: tuple[int, int, int]) -> dict:
        unreadable: dict[str, str] = {}
        for index in self._candidates(key):
            with seeded_rng(*key[:2], index):
                mapped = map_image(self.dicts[index], self.mapper)
            if UNREADABLE not in mapped:
                return mapped | {UNREADABLE: unreadable}
            unreadable |= mapped[UNREADABLE]
            if len(unreadable) > self.max_unreadable:
                break
        return {UNREADABLE: unreadable}  # and no image

    def _candidates(self, key: tuple[int, int, int]) -> Iterator[int]:
        yield key[-1]
        order = np.random.default_rng(key).permutation(len(self.dicts)).tolist()
        yield from (index for index in order if index != key[-1])


class EvaluationDataset(ImageDataset):
    """Every image once and as it is; an unreadable one is blank."""

    def __getitem__(self, index: int) -> dict:
        sample = self.dicts[index]
        mapped = map_image(sample, self.mapper)
        if UNREADABLE in mapped:
            # Without annotations, so that no loss is computed of it.
            mapped |= {k: v for k, v in sample.items() if k != "annotations"}
            mapped["image"] = torch.zeros((3, *BLANK_SIZE), dtype=torch.uint8)
        return mapped


class ReportingLoader(DataLoader):
    """A loader of lists of samples that logs every unreadable image file once, and stops where more
    have been met in this process than its data set allows."""

    dataset: ImageDataset

    def __init__(self, dataset: ImageDataset, **options):
        super().__init__(
            dataset,
            collate_fn=trivial_batch_collator,
            worker_init_fn=leave_signals_to_trainer,
            generator=torch.Generator(),  # nothing is taken from the random states of training
            **options,
        )

    def __iter__(self) -> Any:
        met: set[str] = set()
        for batch in super().__iter__():
            for sample in batch:
                for file_name, problem in sample.pop(UNREADABLE, {}).items():
                    if file_name not in met:
                        met.add(file_name)
                        self._report(file_name, problem, len(met))
            if not all(batch):
                raise ConfigError("No image of the training set can be read; try scopenet check.")
            yield batch

    def _report(self, file_name: str, problem: str, number: int) -> None:
        limit = self.dataset.max_unreadable
        if number > limit:
            raise ConfigError(
                f"{number} images cannot be read, the last is {file_name} ({problem}); mend them, "
                f"see scopenet check, or raise DATALOADER.MAX_UNREADABLE_IMAGES, now {limit}."
            )
        logging.getLogger(__name__).warning(
            f"{file_name} cannot be read ({problem}): training takes another image in its place, "
            f"evaluation a blank one. These are {number} so far, {limit} may be."
        )


def build_train_loader(
    dataset: Sequence[dict],
    *,
    mapper: Mapper,
    total_batch_size: int,
    seed: int,
    num_workers: int = 0,
    aspect_ratio_grouping: bool = True,
    group_size: int = GROUP_SIZE,
    max_unreadable: int = 0,
    repeat_threshold: float = 0.0,
    repeat_sqrt: bool = True,
) -> DataLoader:
    """Load seeded batches of dicts in Detectron2's format, without unusable boxes, from
    ``loader.batch_sampler.start_iter`` on. What :class:`SeededBatchSampler` refuses, and too many
    unreadable files when they are met, are a ConfigError.

    Args:
        total_batch_size: images of an iteration over all workers.
        seed: >= 0, equal in all workers.
        num_workers: loader processes of each worker.
        aspect_ratio_grouping: groups of ``group_size`` hold either wide or high images only, but
            for those that take the place of an unreadable one.
        max_unreadable: different unreadable files that may be met in this process.
        repeat_threshold: if not 0, see :func:`repeat_factors_of`, for ``repeat_sqrt`` too.
    """
    usable, factors = drop_unusable_boxes(dataset), None
    if repeat_threshold and usable:
        factors = repeat_factors_of(usable, repeat_threshold, sqrt=repeat_sqrt)
    is_wide = [x["width"] > x["height"] for x in dataset] if aspect_ratio_grouping else None
    sampler = SeededBatchSampler(len(dataset), total_batch_size, seed, is_wide, group_size, factors)
    images = SeededDataset(usable, mapper, max_unreadable=max_unreadable)
    workers = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    return ReportingLoader(images, batch_sampler=sampler, **workers)


def build_validation_loader(
    dataset: Sequence[dict], *, mapper: Mapper, max_unreadable: int = 0, **options: int
) -> DataLoader:
    """Load every image once and in order; unlike Detectron2's, an unreadable one does not stop it.

    ``options`` are ``batch_size`` of this process, by default 1, and ``num_workers``, by default 0;
    for the other arguments see :func:`build_train_loader`.
    """
    images = EvaluationDataset(dataset, mapper, max_unreadable=max_unreadable)
    return ReportingLoader(images, sampler=InferenceSampler(len(dataset)), **options)
