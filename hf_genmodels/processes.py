"""What processes of one run tell each other: values, and what went wrong, so that all end and none waits in vain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch

from .errors import UserError

T = TypeVar("T")
# One may have to wait for what another downloads, draws, measures or publishes.
PATIENCE = timedelta(days=1)


def gather(value: T, group: Any = None) -> list[T]:
    """The values of all processes of a group (by default of all), by rank; each calls it."""
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group=group)
    return values


def checked(found: list[T | UserError]) -> list[T]:
    """What each process found.

    Raises:
        UserError: That of the first process that has one.
    """
    for each in found:
        if isinstance(each, UserError):
            raise each
    return found  # type: ignore[return-value]


@contextmanager
def together(everyones: Callable[[Any], list[Any]]) -> Iterator[None]:
    """What one process fails at in the block, all fail at when it ends; the block itself waits for nobody.

    A process that went on alone would wait in vain for the one that failed.

    Args:
        everyones: Gives each process what all of them have, by rank.

    Raises:
        UserError: That of this process, or of the first that has one.
    """
    mine: UserError | None = None
    try:
        yield
    except UserError as error:
        mine = error
    said = everyones(mine)
    if mine is not None:
        raise mine
    checked(said)


def let_collectives_end() -> None:
    """Let gloo's threads have the interpreter lock before this process destroys them.

    They need the lock to drop the tensors of a collective that has ended. A process that destroys its process group at
    that moment holds the lock while it joins them, and neither goes on (seen with torch 2.13).
    """
    time.sleep(0.3)
