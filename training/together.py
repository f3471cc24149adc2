"""What the processes of a run must be of one mind about: failures, who writes where, what is resumed.

Where one may have to wait for another that downloads, draws or publishes, all meet in a group of their own that waits
for a day. The backend's own timeout, 10 minutes of NCCL, stays what finds a process that hangs in a step. One that was
killed has closed its connections, which gloo, and so this group, notices at once.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator

from hf_genmodels import processes
from hf_genmodels.data.sharing import ALONE, Share
from hf_genmodels.errors import UserError
from hf_genmodels.processes import PATIENCE

T = TypeVar("T")
_PATIENT: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def patient_group() -> Any:
    """The processes' group of gloo that waits for `PATIENCE`; all must ask for it first at the same place."""
    world = torch.distributed.group.WORLD
    if world not in _PATIENT:
        _PATIENT[world] = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    return _PATIENT[world]


def gather(accelerator: Accelerator, value: T) -> list[T]:
    """The values of all processes, in each of them."""
    if accelerator.num_processes == 1:
        return [value]
    return processes.gather(value, patient_group())


@contextmanager
def missing_no_other() -> Iterator[None]:
    """Turn what a process meets with when another is gone into one line.

    Raises:
        UserError: Another process was killed or has ended, or does not answer.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's have no class of their own
        if not isinstance(error, torch.distributed.DistError) and "gloo/transport" not in str(error):
            raise
        said = str(error).partition("This is typically")[0].rpartition("] ")[2].strip(" .")
        raise UserError(
            f"another process of the run has ended or does not answer ({said}): see what it said, or who killed it, "
            "and start all of them anew; --resume_from_checkpoint latest goes on from the last checkpoint"
        ) from error


def main_first(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """What an action gives, the main process's first: what it downloads or prepares, the others find.

    Raises:
        UserError: That of this process, or of the first that has one.
    """
    results = []
    for turn in (True, False):
        with together(accelerator):
            if accelerator.is_main_process == turn:
                results.append(action())
    return results[0]


def together(accelerator: Accelerator) -> AbstractContextManager[None]:
    """See `hf_genmodels.processes.together`, among the processes of the run."""
    return processes.together(partial(gather, accelerator))


def of_main(accelerator: Accelerator, value: str) -> str:
    """The main process's value, in every process."""
    return gather(accelerator, value)[0]


def writes_alone(accelerator: Accelerator, folder: Path) -> bool:
    """Whether this process is the one that writes into `folder`, which lies on one disk or on one in each machine.

    That is the main process, and on a machine that does not see the main process's folder the first process there.

    Args:
        accelerator: Of the run.
        folder: Exists where the main process is.
    """
    if accelerator.num_processes == 1:
        return True
    sign = folder / of_main(accelerator, f".seen-{uuid.uuid4().hex}")
    with together(accelerator):
        if accelerator.is_main_process:
            sign.touch()
    is_seen = sign.exists()
    with together(accelerator):  # all have looked
        pass
    if accelerator.is_main_process:
        sign.unlink()
    return accelerator.is_main_process or (accelerator.is_local_main_process and not is_seen)


def share_of(accelerator: Accelerator) -> Share:
    """The part of each process in looking at the files of its machine: others may have other disks.

    Every process must call this alike. Launchers number the processes of a machine one after another, as many on each;
    where it is otherwise, every process looks at all files.
    """
    if accelerator.num_processes == 1:
        return ALONE
    first = partial(main_first, accelerator)
    count = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    rank = accelerator.process_index % count
    is_usual = accelerator.num_processes % count == 0 and rank == accelerator.local_process_index
    if set(gather(accelerator, (count, is_usual))) != {(count, True)} or count == 1:
        return Share(first=first)
    group, _ = torch.distributed.new_subgroups(count, backend="gloo", timeout=PATIENCE)
    return Share(rank, count, partial(processes.gather, group=group), first)
