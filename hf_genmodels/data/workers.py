"""Processes that read and decode ahead. Which batches come, and in which order, does not depend on their number."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import fsspec.asyn
import torch

from ..errors import UserError
from .layouts import TwoImageDataset
from .placing import Batch

if TYPE_CHECKING:
    from .streams import ImageDataset

# Decoding is rarely slower than four of them are together, and each holds batches.
MOST_BY_DEFAULT = 4


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_this_process() -> int:
    """The machine's cores over the processes of the run that it has, at least 1."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def workers_for(dataset: ImageDataset | TwoImageDataset, num_workers: int | None) -> int:
    """How many processes decode a data set.

    Args:
        dataset: Held in memory, it needs none.
        num_workers: How many are asked for; None for one a core of this process, at most 4.
    """
    if dataset.in_memory:
        return 0
    return min(MOST_BY_DEFAULT, cores_of_this_process()) if num_workers is None else num_workers


def gathered(
    dataset: ImageDataset | TwoImageDataset, work: Iterator[Any], num_workers: int
) -> Generator[Batch, None, None]:
    """The batch of each piece of work, in order, as `dataset.gather` makes it; see `loaded`.

    Raises:
        UserError: An image is bad, or a process was killed.
    """
    if num_workers == 0:
        yield from map(dataset.gather, work)
        return
    yield from loaded(_Gather(dataset), num_workers, _Work(work))


def loaded(
    dataset: torch.utils.data.Dataset[Any], num_workers: int, sampler: torch.utils.data.Sampler[Any] | None = None
) -> Generator[Any, None, None]:
    """What worker processes make, as they make it.

    Closing the iterator ends the processes. They end by themselves where this process is killed.

    Args:
        dataset: Hands back the UserErrors of a worker instead of raising them.
        num_workers: At least 1.
        sampler: Of a data set that is no `IterableDataset`, what each item is made of.

    Raises:
        UserError: That of a worker, or one was killed.
    """
    # Its own generator: the loader would otherwise draw from torch's global one, and change the training noise.
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        generator=torch.Generator(),
        worker_init_fn=_begin_worker,
    )
    made = iter(loader)
    # The loader ends them when it is garbage; a program that ends before would wait for them, who wait for work.
    end: Callable[[], None] = made._shutdown_workers  # type: ignore[attr-defined]
    atexit.register(end)
    try:
        while True:
            with telling_of_killed_workers():
                item = next(made, None)
            if item is None:
                return
            if isinstance(item, UserError):
                raise item
            yield item
    finally:
        atexit.unregister(end)
        end()


@contextmanager
def telling_of_killed_workers() -> Iterator[None]:
    """Make one line of what PyTorch raises where a process that decodes images is killed, wherever the run then is.

    Raises:
        UserError: One was.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            "a process that decodes images was killed, maybe for lack of memory: give fewer --dataloader_num_workers"
        ) from error


class _Gather(torch.utils.data.Dataset):
    """What a worker process does: work in, batch out. A user's error is handed back, for it to arrive as one line."""

    def __init__(self, dataset: ImageDataset | TwoImageDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, work: Any) -> Batch | UserError:
        try:
            return self.dataset.gather(work)
        except UserError as error:
            return error


class _Work(torch.utils.data.Sampler):
    """Hands a DataLoader its work."""

    def __init__(self, work: Iterator[Any]) -> None:
        self.work = work

    def __iter__(self) -> Iterator[Any]:
        return self.work


def _as_it_is(item: Any) -> Any:
    return item


def _begin_worker(_: int) -> None:
    """What a worker of a DataLoader does first.

    Terminals and schedulers tell every process to stop, but the run needs batches until its step is finished. And a
    lock that fsspec held when the process was forked would never be released.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    fsspec.asyn.reset_lock()
