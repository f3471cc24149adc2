"""Lanes: how the shards of a stream are shared out, and in which order the examples of a lane come.

The shards of a stream are dealt to lanes, and each lane makes as many rows of every global batch, one after another. A
process reads the lanes of its rows, and so does each worker; the order within a lane is a function of (seed, lane), so
that neither changes a batch. A lane that has gone through its shards begins its next epoch by itself. For each epoch
the shards are shuffled and dealt anew: one lane may be an epoch ahead of another, but every shard comes once in every
epoch, so that the examples of short shards, or of lanes of few, come no more often than others.

The example at position p of a lane's epoch comes at place p + u * span, u uniform in [0, 1): none moves further than
`span`, and about `span / 2` are held back at a time. Other than a buffer of which a random entry is replaced, this can
be gone on with by reading the last `span` examples once more.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import UserError
from .sets import ORDER, generator
from .streams import ShardReader, StreamedDataset, StreamExample

logger = logging.getLogger(__name__)

# Lanes that one process reads at a time, where there are shards enough.
LANES = 16
# Lanes of each of many processes, for it to have several workers.
LANES_OF_A_PROCESS = 4
# Epochs in a row that may be too short for a batch: of shards that are empty, or few and small.
SHORT_EPOCHS = 16
# Of an epoch: turn of the shard, examples before, where in the shard.
BEGINNING: dict[str, Any] = {"order": 0, "position": 0, "shard": None}


def count_lanes(num_shards: int, global_batch_size: int, world_size: int, accumulation: int) -> int:
    """The number of lanes: the same for one process as for up to four, and up to 16 micro-batches of a global batch.

    It divides the global batch.
    """
    most = LANES if world_size == 1 else max(LANES, LANES_OF_A_PROCESS * world_size, accumulation * world_size)
    return max(lanes for lanes in range(1, min(most, num_shards) + 1) if global_batch_size % lanes == 0)


class Lane:
    """The endless shuffled examples of some shards.

    Args:
        dataset: The stream.
        number: Of this lane.
        num_lanes: Among which the shards are dealt.
        seed: Decides about the order.
        width: Examples of it in a global batch.
        state: From `state()`; None for the beginning.
    """

    def __init__(
        self,
        dataset: StreamedDataset,
        number: int,
        num_lanes: int,
        seed: int,
        width: int = 1,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.dataset = dataset
        self.number = number
        self.num_lanes = num_lanes
        self.seed = seed
        self.width = width
        self.span = 2 * (max(1.0, dataset.shuffle_buffer / num_lanes) - 1)
        self.epoch: int = 0 if state is None else state["epoch"]
        # Place and position of the last example that was given out.
        self.last: tuple[float, int] = (-1.0, -1) if state is None else (state["place"], state["position"])
        # From where it can be read again, the earliest first: the last that suffices, and what may suffice later.
        self.beginnings = deque([BEGINNING if state is None else state["beginning"]])
        self._rest = self.rest_of_epoch()

    def state(self) -> dict[str, Any]:
        """From where to go on behind the last example that was given out; plain values."""
        place, position = self.last
        return {"epoch": self.epoch, "place": place, "position": position, "beginning": self.beginnings[0]}

    def take(self) -> tuple[int, list[StreamExample]]:
        """The lane's examples of the next global batch, and the epoch of the lane that they are of.

        An epoch ends before one that would be incomplete, as that of other data does.

        Raises:
            UserError: The shards cannot be read, or hold fewer examples than a global batch takes of them.
        """
        for _ in range(SHORT_EPOCHS):
            examples = list(itertools.islice(self._rest, self.width))
            if len(examples) == self.width:
                return self.epoch, examples
            self.epoch += 1
            self.last = (-1.0, -1)
            self.beginnings = deque([BEGINNING])
            self._rest = self.rest_of_epoch()
        raise UserError(
            f"{self.dataset.images.place} has too few examples for a global batch, which takes {self.width} of its "
            f"shards in each of {self.num_lanes} parts: remove or fill what is empty, or lower --train_batch_size"
        )

    def shards(self) -> np.ndarray:
        """Those of its epoch, in their order."""
        every = np.arange(self.dataset.num_shards)
        if self.dataset.limit is None:  # otherwise the first examples are meant
            every = generator(self.seed, self.epoch, ORDER).permutation(every)
        return every[self.number :: self.num_lanes]

    def check(self) -> None:
        """Look at the state that this lane was given.

        Raises:
            ValueError: It is none of this lane.
        """
        beginning = self.beginnings[0]
        numbers = (self.epoch, beginning["order"], beginning["position"])
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError(f"{numbers} are no epoch, turn and position of a lane")
        if not isinstance(self.last[0], float) or not isinstance(self.last[1], int):
            raise ValueError(f"{self.last} is no place of an example")
        reader = ShardReader(self.dataset, int(self.shards()[beginning["order"]]))
        if beginning["shard"] is not None and not _alike(reader.state(), beginning["shard"]):
            raise ValueError(f"{beginning['shard']} is no state of a shard")

    def rest_of_epoch(self) -> Iterator[StreamExample]:
        """The examples of the epoch that were not given out yet.

        Raises:
            UserError: The shards cannot be read, or hold fewer examples than a global batch takes of them.
        """
        waiting: list[tuple[float, int, StreamExample]] = []
        # A generator may jump to where its n-th number is drawn.
        random = np.random.Generator(self._bits().advance(self.beginnings[0]["position"]))
        position = -1
        for position, example in self._read(self.beginnings[0]):
            while waiting and waiting[0][0] <= position:
                yield self._given_out(*heapq.heappop(waiting))
            place = position + self.span * float(random.random())
            if (place, position) > self.last:
                heapq.heappush(waiting, (place, position, example))
        if self.epoch == 0 and 0 < position + 1 < self.width:  # later ones may be dealt small shards by chance
            raise UserError(
                f"a global batch takes {self.width} examples at once, which is more than the {position + 1} of "
                f"{self._place()}: lower --train_batch_size"
            )
        while waiting:
            yield self._given_out(*heapq.heappop(waiting))

    def _given_out(self, place: float, position: int, example: StreamExample) -> StreamExample:
        self.last = (place, position)
        while len(self.beginnings) > 1 and self.beginnings[1]["position"] <= place - self.span:
            self.beginnings.popleft()
        return example

    def _bits(self) -> np.random.PCG64:
        return np.random.PCG64((self.seed, self.epoch, self.number, ORDER))

    def _read(self, beginning: dict[str, Any]) -> Iterator[tuple[int, StreamExample]]:
        """The examples of the epoch's shards from a beginning on, by position."""
        dataset, position, first = self.dataset, beginning["position"], beginning["order"]
        every = max(1, math.ceil(self.span / 8))
        skipped = dataset.skipped
        for turn, shard in enumerate(self.shards()[first:].tolist(), first):
            reader = ShardReader(dataset, shard, beginning["shard"] if turn == first else None)
            for example in reader:
                yield position, example
                position += 1
                if position == dataset.limit:
                    return
                if position % every == 0 and position > self.beginnings[-1]["position"]:
                    self.beginnings.append({"order": turn, "position": position, "shard": reader.state()})
        if self.epoch == 0 and dataset.skipped > skipped:
            logger.warning("skipped %d bad images of %s", dataset.skipped - skipped, self._place())

    def _place(self) -> str:
        """Where its examples lie, for messages."""
        if self.num_lanes == 1:
            return self.dataset.images.place
        shards = self.shards()
        named = ", ".join(map(str, shards[:3])) + (", ..." if len(shards) > 3 else "")
        return f"shard {named} of {self.dataset.images.place}"


def _alike(fresh: Any, saved: Any) -> bool:
    """Whether a state is made of the same parts as that of the beginning, where some are still empty."""
    if isinstance(fresh, dict):
        same = isinstance(saved, dict) and fresh.keys() == saved.keys()
        return same and all(_alike(value, saved[name]) for name, value in fresh.items())
    return fresh is None or (isinstance(saved, type(fresh)) and not (isinstance(saved, int) and saved < 0))
