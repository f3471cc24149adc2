"""The micro-batches of one process from the lanes of a stream, made by itself or by workers that share the lanes."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch

from ..errors import UserError
from .lanes import Lane
from .placing import Batch
from .sets import NUM_DRAWS, augmentation_draws
from .streams import StreamedDataset, StreamExample
from .workers import loaded

logger = logging.getLogger(__name__)

State = dict[str, Any]
Part: TypeAlias = tuple[Batch | None, dict[int, State]]
# Updates whose state is remembered: more than anybody takes ahead of the training loop.
REMEMBERED = 16


@dataclass(frozen=True)
class Rows:
    """Which rows of a global batch are whose.

    Attributes:
        batch_size: Rows of a micro-batch.
        accumulation: Micro-batches a process accumulates.
        rank: The process.
        world_size: Number of processes.
        num_lanes: See `count_lanes`.
    """

    batch_size: int
    accumulation: int
    rank: int
    world_size: int
    num_lanes: int

    @property
    def width(self) -> int:
        """Rows of a lane."""
        return self.batch_size * self.accumulation * self.world_size // self.num_lanes

    def of_micro_batch(self, micro: int) -> range:
        """The rows of the process's n-th micro-batch."""
        begin = (micro * self.world_size + self.rank) * self.batch_size
        return range(begin, begin + self.batch_size)

    @cached_property
    def lanes(self) -> list[int]:
        """The lanes that the process reads."""
        every = itertools.chain.from_iterable(map(self.of_micro_batch, range(self.accumulation)))
        return sorted({row // self.width for row in every})

    def of_worker(self, micro: int, worker: int, num_workers: int) -> list[int]:
        """Which of a micro-batch's rows a worker makes: those of its lanes; where there are fewer, some of each."""
        lanes, rows = self.lanes, self.of_micro_batch(micro)
        if len(lanes) < num_workers:
            return list(rows[worker::num_workers])
        mine = set(lanes[worker::num_workers])
        return [row for row in rows if row // self.width in mine]


class StreamBatches:
    """The endless batches of one process.

    Args:
        dataset: The stream.
        rows: Which rows of a global batch are the process's.
        seed: Decides about order and augmentation.
        num_workers: Processes that read and decode ahead; the batches are the same.
    """

    def __init__(self, dataset: StreamedDataset, rows: Rows, seed: int, num_workers: int) -> None:
        self.dataset = dataset
        self.rows = rows
        self.seed = seed
        self.num_workers = num_workers
        # The newest of those that hold after so many global batches.
        self.states: deque[tuple[int, dict[int, State]]] = deque(maxlen=REMEMBERED)
        if rows.rank == 0 and len(rows.lanes) * rows.width >= 2 * rows.accumulation * rows.batch_size:
            logger.warning(
                "warning: %s has %d shards, too few or too odd a number for each of %d processes to have its own: "
                "each reads %d examples for a batch of %d",
                *(dataset.images.place, dataset.num_shards, rows.world_size, len(rows.lanes) * rows.width),
                rows.accumulation * rows.batch_size,
            )

    def start(self, position: int, state: State | None) -> Generator[Batch, None, None]:
        """Batches after the first `position` ones: from a state at most as far, or from the stream's beginning.

        Their images are in the precision in which they are stored.
        """
        accumulation = self.rows.accumulation
        update, lanes = (0, {}) if state is None else (state["update"], state["lanes"])
        self.states.clear()
        self.states.append((update, lanes))
        with closing(self._made(lanes)) as made:
            for number, (micro, parts) in enumerate(made, update * accumulation):
                found: dict[int, State] = {}
                for _, states in parts:
                    found |= states
                if micro == accumulation - 1:
                    self.states.append((number // accumulation + 1, found))
                if number >= position:
                    yield self._join(micro, [part for part, _ in parts])

    def state(self, position: int) -> State:
        """How to go on behind the first `position` micro-batches; plain values."""
        accumulation = self.rows.accumulation
        update, lanes = next(each for each in reversed(self.states) if each[0] * accumulation <= position)
        return {"shards": self.dataset.num_shards, "update": update, "lanes": lanes}

    def restored(self, position: int, state: Any) -> State:
        """A saved state, looked at.

        Args:
            position: Micro-batches that have been.
            state: From a checkpoint; None in those of earlier versions, whose stream begins anew, with a line.

        Raises:
            ValueError: It is none of this stream behind these batches.
        """
        update, dataset = position // self.rows.accumulation, self.dataset
        if state is None:
            if self.rows.rank == 0:
                logger.warning(
                    "warning: the checkpoint does not say how far %s was read: it is read from its beginning",
                    dataset.images.place,
                )
            return {"update": update, "lanes": {}}
        if state["shards"] != dataset.num_shards:
            raise ValueError(f"the stream had {state['shards']} shards, it has {dataset.num_shards}")
        if state["update"] != update or sorted(state["lanes"]) not in ([], self.rows.lanes):
            raise ValueError(f"the stream's state is that of update {state['update']}, lanes {list(state['lanes'])}")
        for number, lane in state["lanes"].items():
            Lane(dataset, number, self.rows.num_lanes, self.seed, self.rows.width, lane).check()
        restored: State = state
        return restored

    def parts(self, worker: int, num_workers: int, states: dict[int, State]) -> Iterator[Part]:
        """A worker's part of each micro-batch, and behind the last one of a global batch where its lanes are."""
        rows = self.rows
        shares = [rows.of_worker(micro, worker, num_workers) for micro in range(rows.accumulation)]
        lanes = {
            number: Lane(self.dataset, number, rows.num_lanes, self.seed, rows.width, states.get(number))
            for number in sorted({row // rows.width for share in shares for row in share})
        }
        while True:
            taken: dict[int, tuple[int, list[StreamExample]]] = {}
            for micro, share in enumerate(shares):
                for number in dict.fromkeys(row // rows.width for row in share):
                    if number not in taken:
                        taken[number] = lanes[number].take()
                places = [(taken[row // rows.width], row % rows.width) for row in share]
                chosen = [(epoch, examples[place]) for (epoch, examples), place in places]
                is_last = micro == rows.accumulation - 1
                yield (
                    self._collate(chosen) if chosen else None,
                    {number: lane.state() for number, lane in lanes.items()} if is_last else {},
                )

    def _collate(self, chosen: Sequence[tuple[int, StreamExample]]) -> Batch:
        examples = [example for _, example in chosen]
        if not self.dataset.augmented:
            return self.dataset.gather((examples, None))
        epochs, indices = np.array([(epoch, example.index) for epoch, example in chosen]).T
        draws = np.empty((NUM_DRAWS, len(chosen)))
        for epoch in np.unique(epochs):
            draws[:, epochs == epoch] = augmentation_draws(self.seed, int(epoch), indices[epochs == epoch])
        return self.dataset.gather((examples, draws))

    def _made(self, states: dict[int, State]) -> Generator[tuple[int, list[Part]], None, None]:
        """The parts of each micro-batch, with its number within the global batch."""
        turns = itertools.cycle(range(self.rows.accumulation))
        if self.num_workers == 0:
            for micro, part in zip(turns, self.parts(0, 1, states), strict=False):
                yield micro, [part]
            return
        with closing(loaded(_Parts(self, states), self.num_workers)) as made:  # one after another of each worker
            for micro in turns:
                yield micro, list(itertools.islice(made, self.num_workers))

    def _join(self, micro: int, parts: Sequence[Batch | None]) -> Batch:
        """The micro-batch of which the workers have made the parts."""
        made = [part for part in parts if part is not None]
        if len(made) == 1:
            return made[0]
        first = self.rows.of_micro_batch(micro)[0]
        whole = {name: values.new_empty((self.rows.batch_size, *values.shape[1:])) for name, values in made[0].items()}
        for worker, part in enumerate(parts):
            places = [row - first for row in self.rows.of_worker(micro, worker, len(parts))]
            for name, values in (part or {}).items():
                whole[name][places] = values
        return whole


class _Parts(torch.utils.data.IterableDataset):
    """What a worker of a DataLoader makes. A user's error is handed on, for it to arrive as one line."""

    def __init__(self, batches: StreamBatches, states: dict[int, State]) -> None:
        self.batches = batches
        self.states = states

    def __iter__(self) -> Iterator[Part | UserError]:
        worker = torch.utils.data.get_worker_info()
        assert worker is not None
        try:
            yield from self.batches.parts(worker.id, worker.num_workers, self.states)
        except UserError as error:
            yield error
