"""Work on the files of a machine that its processes share, each doing a part and learning what the others found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..errors import UserError
from ..processes import checked

Found = TypeVar("Found")


def _as_list(found: Any) -> list[Any]:
    return [found]


def _now(work: Callable[[], Found]) -> Found:
    return work()


@dataclass(frozen=True)
class Share:
    """One of the processes that see the same files; by default it is the only one.

    Attributes:
        rank: Which of them.
        count: How many they are.
        gather: Gives each what all of them have, in the order of their ranks; called by all alike.
        first: Does some work in the run's main process before it is done in the others, such as what fills a cache.
    """

    rank: int = 0
    count: int = 1
    gather: Callable[[Any], list[Any]] = _as_list
    first: Callable[[Callable[[], Any]], Any] = _now

    def of(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of some rows: those of the first process come first."""
        return np.array_split(rows, self.count)[self.rank]

    def together(self, work: Callable[[], Found]) -> list[Found]:
        """What each process found.

        Raises:
            UserError: In all of them, that of the first one that has one.
        """
        mine: Found | UserError
        try:
            mine = work()
        except UserError as error:
            mine = error
        return checked(self.gather(mine))


ALONE = Share()
