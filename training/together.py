"""What the processes of a run must be of one mind about: failures, who writes where, what is resumed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from hf_genmodels.errors import UserError


@contextmanager
def together(accelerator: Accelerator) -> Iterator[None]:
    """What one process fails at in the block, all fail at when it ends; until then they wait for each other.

    A process that went on alone would wait in vain for the one that failed.

    Raises:
        UserError: That of this process, or of the first that has one.
    """
    mine: UserError | None = None
    try:
        yield
    except UserError as error:
        mine = error
    said: list[str | None] = gather_object([None if mine is None else str(mine)])
    if mine is not None:
        raise mine
    first = next((each for each in said if each is not None), None)
    if first is not None:
        raise UserError(first)


def of_main(accelerator: Accelerator, value: str) -> str:
    """The main process's value, in every process."""
    values: list[str] = gather_object([value])
    return values[0]


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
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        sign.unlink()
    return accelerator.is_main_process or (accelerator.is_local_main_process and not is_seen)
