"""Data sets -> batches, in an order that depends on the seed and not on how the work is split.

Epoch e visits the examples in an order that is a function of (seed, e). A global batch is `accumulation * world_size *
batch_size` consecutive entries of it; micro-batch m of rank r is the slice that begins at `(m * world_size + r) *
batch_size`. So N processes, or N accumulated micro-batches, see exactly what one process with an N times larger batch
sees, and training can go on from any position. Streams have `lanes` of their own order.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from ..errors import UserError
from .lanes import count_lanes
from .layouts import TwoImageDataset
from .placing import HOST, Batch, Place, placed
from .sets import augmentation_draws, order
from .stream_batches import Rows, StreamBatches
from .streams import ImageDataset, StreamedDataset
from .workers import gathered, workers_for

# Entries of an epoch's order that are found in one go: a few would take as long.
PLANNED_EXAMPLES = 4096


class TrainingBatches:
    """The shuffled, augmented, endless batches one process trains on.

    Random flips and crops are a function of (seed, epoch, index), so that they too do not depend on the number of
    processes or workers.

    Args:
        dataset: From `load_data`.
        batch_size: Examples in a micro-batch of one process.
        accumulation: Micro-batches a process accumulates for one update.
        rank: This process.
        world_size: Number of processes.
        seed: Decides about order and augmentation.
        num_workers: Processes that read and decode ahead, None for as many as `workers_for` says; unused for data held
            in memory. The batches are the same.

    Raises:
        UserError: A global batch is larger than the data.
    """

    def __init__(
        self,
        dataset: ImageDataset | TwoImageDataset,
        *,
        batch_size: int,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        num_workers: int | None = 0,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.num_workers = workers_for(dataset, num_workers)
        self.global_batch_size = accumulation * world_size * batch_size
        self.stream: StreamBatches | None = None
        if isinstance(dataset, StreamedDataset):
            shards = dataset.num_shards if dataset.limit is None else 1
            lanes = count_lanes(shards, self.global_batch_size, world_size, accumulation)
            rows = Rows(batch_size, accumulation, rank, world_size, lanes)
            if num_workers is None:  # more would read the same shards
                self.num_workers = min(self.num_workers, len(rows.lanes))
            self.stream = StreamBatches(dataset, rows, seed, self.num_workers)
        elif dataset.spec.num_examples is not None and dataset.spec.num_examples < self.global_batch_size:
            raise UserError(
                f"a global batch of {self.global_batch_size} ({self.batch_size} x {self.accumulation} accumulated x "
                f"{self.world_size} processes) is larger than the {dataset.spec.num_examples} training examples of "
                f"{self.dataset.spec.name}: lower --train_batch_size"
            )

    @property
    def batches_per_epoch(self) -> int | None:
        """Micro-batches of this process in an epoch, incomplete global batches left out; None when streaming."""
        if self.dataset.spec.num_examples is None:
            return None
        return self.dataset.spec.num_examples // self.global_batch_size * self.accumulation

    def start(
        self, position: int, state: dict[str, Any] | None = None, place: Place = HOST
    ) -> Generator[Batch, None, None]:
        """Endless batches of this process, beginning after its first `position` ones; closing them ends the workers.

        Takes the same time for every position; when streaming, where `state` tells how far the stream was read, else
        it is read up to there.

        Args:
            position: Micro-batches of this process that have been used; those made ahead do not count.
            state: From `state(position)`.
            place: Where the batches go.
        """
        if self.stream is None:
            batches = gathered(self.dataset, self._map_work(position), self.num_workers)
        else:
            batches = self.stream.start(position, state)
        with closing(batches):
            yield from placed(batches, self.dataset.specs, place)

    def state(self, position: int) -> dict[str, Any] | None:
        """What `start` needs to go on after the first `position` micro-batches; plain values, None for map-style data.

        Args:
            position: Micro-batches that have been used; a few more may have been made.
        """
        return None if self.stream is None else self.stream.state(position)

    def _map_work(self, position: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        per_epoch, count = self.batches_per_epoch, self.dataset.spec.num_examples
        assert per_epoch is not None and count is not None
        first_epoch, first_batch = divmod(position, per_epoch)
        at_once = max(1, PLANNED_EXAMPLES // self.batch_size)
        for epoch in itertools.count(first_epoch):
            for begin in range(first_batch if epoch == first_epoch else 0, per_epoch, at_once):
                batches = np.arange(begin, min(begin + at_once, per_epoch))[:, None]
                within = np.arange(self.batch_size)
                positions = ((batches * self.world_size + self.rank) * self.batch_size + within).ravel()
                indices = order(self.seed, epoch, positions, count)
                draws = augmentation_draws(self.seed, epoch, indices) if self.dataset.augmented else None
                for start in range(0, len(indices), self.batch_size):
                    batch = slice(start, start + self.batch_size)
                    yield indices[batch], None if draws is None else draws[:, batch]


def _grouped(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


def evaluation_batches(
    dataset: ImageDataset | TwoImageDataset,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int | None = 0,
    place: Place = HOST,
    by_shards: bool = False,
) -> Iterator[Batch]:
    """Every example once, in order and without augmentation; the last batch may be short.

    Of two sets of images that are no pairs every image of either comes once, see `TwoImageDataset`. Batch k goes to
    rank `k % world_size`, so that ranks share no example.

    Args:
        dataset: From `load_data` or `load_split`.
        batch_size: Examples in a batch.
        rank: This process.
        world_size: Number of processes.
        num_workers: As for `TrainingBatches`; one batch needs none.
        place: Where the batches go.
        by_shards: Of a stream that has as many shards as ranks, shard k goes to rank `k % world_size` instead, and no
            rank reads those of others.
    """
    work: Iterator[Any]
    if isinstance(dataset, StreamedDataset):
        by_shards = by_shards and dataset.num_shards >= world_size and dataset.limit is None
        shards = range(rank, dataset.num_shards, world_size) if by_shards else None
        groups = _grouped(dataset.examples(shards), batch_size)
        mine = groups if by_shards else itertools.islice(groups, rank, None, world_size)
        work, num_batches = ((group, None) for group in mine), None
    else:
        count = dataset.evaluated if isinstance(dataset, TwoImageDataset) else len(dataset)
        begins = range(rank * batch_size, count, world_size * batch_size)
        work = ((np.arange(begin, min(begin + batch_size, count)), None) for begin in begins)
        num_batches = len(begins)
    several = num_batches is None or num_batches > 1
    with closing(gathered(dataset, work, workers_for(dataset, num_workers) if several else 0)) as batches:
        yield from placed(batches, dataset.specs, place)
