"""From which checkpoint a run goes on: all processes from the same one, whole and of this run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator

from hf_genmodels.errors import UserError

from . import checkpointing
from .state import identity, own_file, untold_properties
from .together import gather, together

if TYPE_CHECKING:
    from .loop import TrainingLoop


# Where each machine has its data and its model may differ.
PLACES = tuple(f"--{name}{b}" for name in ("train_data_dir", "dataset_name") for b in ("", "_b"))
PLACES += ("--pretrained_model_name_or_path", "--extractor", "data set")


def check_same_run(loop: TrainingLoop) -> None:
    """Refuse processes that would not do the same: machines can be given other options, or hold other data.

    Raises:
        UserError: Names what differs, in all of them.
    """
    mine = {name: value for name, value in identity(loop).items() if name not in PLACES}
    everyone = gather(loop.accelerator, mine | {"number of steps": loop.total_steps})
    for process, other in enumerate(everyone):
        for name in {**everyone[0], **other}:
            if everyone[0].get(name) != other.get(name):
                raise UserError(
                    f"{name} is {json.dumps(other.get(name))} in process {process} and "
                    f"{json.dumps(everyone[0].get(name))} in process 0: give all the same options and data"
                )


def checkpoint_to_resume(loop: TrainingLoop, name: str, defaults: dict[str, Any]) -> Path | None:
    """The checkpoint that `name` stands for, found to be whole and of this run; None where there is none yet.

    Raises:
        UserError: It is damaged, of another run, beyond the last step of this one, or not the same one everywhere.
    """
    accelerator = loop.accelerator
    with together(accelerator):
        checkpoint = checkpointing.find(loop.output_dir, name)
    if name == "latest":
        checkpoint = newest_of_all(loop)
    if checkpoint is None:
        accelerator.print(f"there is no checkpoint in {loop.output_dir} yet: starting from the beginning")
        return None
    hashed = sees_first(accelerator, checkpoint / checkpointing.MANIFEST)
    with together(accelerator):
        untold = defaults | untold_properties(loop.objective, loop.numbers)
        step, identifier = checkpointing.verify(checkpoint, identity(loop), untold, hashed)
        if step > loop.total_steps:
            raise UserError(
                f"{checkpoint} has been trained for {step} steps, this run has only {loop.total_steps}; "
                "give a larger --max_train_steps (or --num_train_epochs), or an earlier checkpoint"
            )
        if not own_file(loop, checkpoint).is_file():
            raise UserError(
                f"{own_file(loop, checkpoint)} is missing: each machine must keep the checkpoints that it wrote itself"
            )
    seen = gather(accelerator, (step, identifier))
    for process, other in enumerate(seen):
        if other != seen[0]:
            raise UserError(
                f"{checkpoint} is another one for process {process} (step {other[0]}) than for process 0 (step "
                f"{seen[0][0]}): give all machines checkpoints that they wrote together"
            )
    return checkpoint


def sees_first(accelerator: Accelerator, path: Path) -> bool:
    """Whether no process before this one sees the same file: on a disk that they share, the main process's."""
    status = path.stat() if path.is_file() else None
    seen = gather(accelerator, status and (status.st_ino, status.st_mtime_ns))
    return seen.index(seen[accelerator.process_index]) == accelerator.process_index


def newest_of_all(loop: TrainingLoop) -> Path | None:
    """The newest checkpoint that every process finds in the output folder, maybe on a disk of each machine."""
    held = gather(loop.accelerator, [path.name for path in checkpointing.list_checkpoints(loop.output_dir)])
    common = [name for name in held[0] if all(name in names for names in held)]
    if common:
        return loop.output_dir / common[-1]
    for process, names in enumerate(held):
        if names:
            lacking = next(other for other, found in enumerate(held) if names[-1] not in found)
            raise UserError(
                f"process {process} has {', '.join(names)} in {loop.output_dir}, of which process {lacking} has none: "
                "give all machines checkpoints that they wrote together, or start anew in another folder"
            )
    return None
