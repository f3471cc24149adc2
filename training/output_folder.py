"""The folder a run writes into: whose it is, what of an earlier run is removed, what stands in the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hf_genmodels.cards import component_folders, load_card
from hf_genmodels.errors import UserError

from . import checkpointing
from .arguments import TrainingArguments

LOCK = ".lock"
OPTIONS = "training_args.json"
FOLDERS = ("samples", "training_networks", checkpointing.FROZEN, checkpointing.BEST, "logs")
FILES = ("README.md", "metrics.json", "losses.png", "model_index.json", OPTIONS)
MODEL_WITHOUT_PIPELINE = ("config.json", "diffusion_pytorch_model.safetensors")


def check_output_dir(args: TrainingArguments, resumable: bool = True) -> None:
    """Refuse a folder that is not empty, unless its run is resumed or to be overwritten.

    Args:
        args: Name the folder, and say what is to be done.
        resumable: Runs of this family can go on.

    Raises:
        UserError: The folder is not empty, or is no folder.
    """
    output_dir = Path(args.output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir} is a file")
    if args.resume_from_checkpoint or args.overwrite_output_dir or not output_dir.is_dir():
        return
    if any(path.name != LOCK for path in output_dir.iterdir()):
        go_on = "--resume_from_checkpoint latest to go on, " if resumable else ""
        raise UserError(
            f"--output_dir {output_dir} is not empty; use {go_on}--overwrite_output_dir to start anew, "
            "or another folder"
        )


def check_unoccupied(output_dir: Path) -> None:
    """Refuse a folder in which another run is at work; nothing is written.

    Raises:
        UserError: The folder cannot be looked at, or see `occupied`.
    """
    try:
        status = (output_dir / LOCK).stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = str(output_dir) if len(str(output_dir)) < 300 else f"{str(output_dir)[:50]}..."
        raise UserError(f"--output_dir {shown!r} cannot be looked at: {reason}") from error
    if stat.S_ISREG(status.st_mode):  # or left behind by a process that was killed
        with occupied(output_dir):
            pass


@contextmanager
def occupied(output_dir: Path) -> Iterator[None]:
    """Create the folder and keep other runs out of it; a process that dies does so no longer.

    Raises:
        UserError: It cannot be created or written to, or another run is at work in it.
    """
    lock = FileLock(output_dir / LOCK)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"another run is at work in --output_dir {output_dir}: wait for its end, or choose another folder"
        ) from None
    except OSError as error:
        raise UserError(f"--output_dir {output_dir} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        if os.name == "posix":  # elsewhere an open file cannot be removed, and releasing it does so
            (output_dir / LOCK).unlink(missing_ok=True)
        lock.release()


def check_ways(output_dir: Path, parts: Iterable[str], overwrite: bool, inputs: Mapping[str, Any]) -> None:
    """Make sure that a run can write into its folder, and that `clear` removes nothing that the run needs.

    Args:
        output_dir: An existing folder.
        parts: Folders that the run will write beside those of every run: those of its pipeline.
        overwrite: What an earlier run left is to be removed.
        inputs: The run's options by name; what they name is not to be removed.

    Raises:
        UserError: Something is in the way, cannot be read, or would be removed.
    """
    for names, is_right, kind in (((*FOLDERS, *parts), Path.is_dir, "folder"), (FILES, Path.is_file, "file")):
        for path in (output_dir / name for name in names):
            is_link_to_remove = overwrite and path.is_symlink() and path.name in FOLDERS
            if os.path.lexists(path) and not is_right(path) and not is_link_to_remove:
                raise UserError(f"{path} is no {kind}, and the run has to write a {kind} there: move it away")
    if (output_dir / "README.md").is_file():
        load_card(output_dir / "README.md")  # which the card will be written into
    if not overwrite:
        return
    left = left_by_earlier_run(output_dir)
    for name, value in inputs.items():
        if name in ("output_dir", "logging_dir") or not isinstance(value, str) or not os.path.exists(value):
            continue
        path, is_model = Path(value).resolve(), name.endswith("_name_or_path")
        if any(_lies_in(path, part.resolve(), is_model) for part in left):
            raise UserError(
                f"--overwrite_output_dir would remove {value}, which --{name} names: choose another --output_dir"
            )


def clear(output_dir: Path) -> None:
    """Remove what an earlier run of ours left in the folder, and nothing else.

    Raises:
        UserError: A file cannot be removed.
    """
    try:
        for path in left_by_earlier_run(output_dir):
            checkpointing.remove(path)
    except OSError as error:
        raise UserError(f"--output_dir {output_dir} cannot be cleared: {error}") from None


def _lies_in(path: Path, part: Path, is_model: bool) -> bool:
    """Whether `path` lies in a part of a folder that is to be removed, or is a model that has it as a part."""
    return path.is_relative_to(part) or (is_model and path == part.parent)


def left_by_earlier_run(output_dir: Path) -> list[Path]:
    """What a run of ours wrote into its output folder.

    `training_args.json`, which a run writes first and by which it is known, comes last. The card is not among them: it
    is written anew with what its user added.
    """
    options, index = output_dir / OPTIONS, output_dir / "model_index.json"
    if not options.is_file():
        return []
    written = [*checkpointing.list_checkpoints(output_dir), *output_dir.glob(".part*")]
    written += [output_dir / name for name in (*FOLDERS, "metrics.json", "losses.png")]
    if index.is_file():
        written += [index, *component_folders(output_dir).values()]
    else:
        written += [output_dir / name for name in MODEL_WITHOUT_PIPELINE]
    return [path for path in (*written, options) if os.path.lexists(path)]
