"""Checkpoints: complete or not there at all, checked when read, named in every error.

`checkpoint-<step>/` holds `networks/<name>/` and `ema/<name>/` (as `save_pretrained` writes them), `state.pt`
(optimisers, gradient scaler, how far the run was), `process-<rank>.pt` (random state, the objective's own state, with
`--zero_redundancy_optimizer` a process's share of the optimisers), and `checkpoint.json`: its step, what run it
belongs to and the size and SHA-256 of every other file. Networks that nothing trains lie once for all checkpoints in
`frozen/<name>/` beside them, and are told of alike; so are the networks in `best/step-<step>/` that `--save_best` may
yet choose.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import ModelMixin
from safetensors import SafetensorError

from hf_genmodels.errors import UserError
from hf_genmodels.files import CHECKPOINT_MANIFEST as MANIFEST
from hf_genmodels.files import read_json, sha256

from .arguments import MAY_CHANGE_ON_RESUME

FROZEN, BEST = "frozen", "best"
_NAME = re.compile(r"checkpoint-(\d+)")


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Finished checkpoints of an output folder, oldest first."""
    found = [
        (int(match[1]), path) for path in output_dir.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def steps_of_checkpoints(output_dir: Path) -> list[int]:
    """Steps of the finished checkpoints of an output folder, ascending."""
    return [int(path.name.rpartition("-")[2]) for path in list_checkpoints(output_dir)]


@contextmanager
def writing(what: str, output_dir: Path) -> Iterator[None]:
    """Turn a failed write (disk full, no permission) into a `UserError` that says which checkpoint is still good."""
    try:
        yield
    except (UserError, OSError, RuntimeError, SafetensorError) as error:
        # safetensors reports a full disk as a SafetensorError; torch as a RuntimeError that says nothing of the disk
        said = error.__context__ if isinstance(error.__context__, OSError) else error
        good = list_checkpoints(output_dir)
        intact = f"{good[-1]} is intact" if good else "there is no earlier checkpoint"
        reason = " ".join(str(said).split()) or type(said).__name__
        raise UserError(f"cannot write {what} in {output_dir}: {reason}; {intact}") from error


def partial_folder(output_dir: Path, step: int) -> Path:
    """Where a checkpoint is written before it gets its name; remains of a killed run are removed by `begin`."""
    return output_dir / f".partial-checkpoint-{step}"


def remove(path: Path) -> None:
    """Remove a file or a folder; of a link, which may lead to another disk, nothing but the link itself."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def begin(output_dir: Path, step: int) -> Path:
    """An empty folder to write checkpoint `step` into (one process calls this)."""
    for stale in output_dir.glob(".partial-checkpoint-*"):
        remove(stale)
    folder = partial_folder(output_dir, step)
    folder.mkdir(parents=True)
    return folder


def finish(
    folder: Path,
    output_dir: Path,
    step: int,
    identifier: str,
    run: dict[str, Any],
    class_names: Sequence[str] | None,
    best: Collection[int] = (),
) -> Path:
    """List the files, write the manifest and give the folder its name (one process a disk, after all have written).

    Args:
        folder: From `begin`.
        output_dir: The run's.
        step: Of the checkpoint.
        identifier: The same on all disks, and of no other checkpoint.
        run: What a run that goes on must share, see `verify`.
        class_names: Of the data, by which a run that starts from the weights knows the classes.
        best: Steps whose networks in `best/` it needs.
    """
    manifest = {"step": step, "id": identifier, "run": run, "class_names": class_names}
    manifest |= {"files": _described(folder), FROZEN: _described(output_dir / FROZEN)}
    if best:
        about = [(f"step-{each}", _described(output_dir / BEST / f"step-{each}")) for each in sorted(best)]
        manifest[BEST] = {f"{name}/{file}": told for name, files in about for file, told in files.items()}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    final = output_dir / f"checkpoint-{step}"
    if final.is_dir():  # a resumed run passes its own later checkpoints again
        remove(final)
    folder.rename(final)
    return final


def _described(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def save_once(network: ModelMixin, folder: Path) -> None:
    """Save a network unless it is there; a kill leaves it whole or not at all (one process calls this)."""
    if not folder.is_dir():
        partial = folder.with_name(f".partial-{folder.name}")
        network.save_pretrained(str(partial))
        partial.rename(folder)


def folder_of(checkpoint: Path, name: str) -> Path:
    """Where a checkpoint's network lies: inside it, or beside it where nothing trains it."""
    inside = checkpoint / "networks" / name
    return inside if inside.is_dir() else checkpoint.parent / FROZEN / name


def prune(output_dir: Path, limit: int | None) -> None:
    """Remove the oldest checkpoints beyond `limit`."""
    if limit is not None:
        for path in list_checkpoints(output_dir)[:-limit]:
            remove(path)


def find(output_dir: Path, resume_from: str) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` names; None for `latest` where there is none yet.

    Raises:
        UserError: The named one does not exist.
    """
    if resume_from == "latest":
        existing = list_checkpoints(output_dir)
        return existing[-1] if existing else None
    for path in (Path(resume_from), output_dir / resume_from):
        if path.is_dir() and (_NAME.fullmatch(path.name) or (path / MANIFEST).is_file()):
            return path
    raise UserError(f"--resume_from_checkpoint {resume_from}: there is no such checkpoint; try `latest`")


def verify(
    checkpoint: Path, run: dict[str, Any], defaults: Mapping[str, Any], hashed: bool = True
) -> tuple[int, str | None]:
    """Check that a checkpoint is whole and belongs to this run.

    Args:
        checkpoint: Its folder.
        run: What must be the same: {option or property: value}.
        defaults: What options, and properties of the objective, are where a checkpoint of an earlier version does not
            tell. One that tells nothing of the objective at all is not compared with it.
        hashed: Look into the files, too; where several processes see the same ones, one of them does.

    Returns:
        The checkpoint's step and identifier, which earlier versions' have not.

    Raises:
        UserError: A damaged file (named, with the checkpoint before it), or another run (what differs is named).
    """
    step, identifier, saved = _read_whole(checkpoint, "--resume_from_checkpoint", hashed, (FROZEN, BEST))
    if _networks(saved) != _networks(run):
        raise UserError(
            f"{checkpoint} is of another run: its networks are {', '.join(_networks(saved))}, this run's are "
            f"{', '.join(_networks(run))}; resume with the family that it belongs to"
        )
    for name in MAY_CHANGE_ON_RESUME:  # some checkpoints tell of these
        saved.pop(f"--{name}", None)
    tells_objective = any(name.startswith("objective.") for name in saved)
    for name in {**run, **saved}:
        of_objective = name.startswith("objective.")
        if of_objective and not tells_objective:
            continue
        now = run.get(name)
        before = saved.get(name, defaults.get(name, None if of_objective else now))
        if before != now and not _are_both_off(name, before, now):
            raise UserError(
                f"{checkpoint} is of another run: {name} = {json.dumps(before)} in the checkpoint, "
                f"{json.dumps(now)} in this run; resume with the same, or start from its weights with "
                f"--pretrained_model_name_or_path {checkpoint} (in Python: give the objective networks loaded from it)"
            )
    return step, identifier


def _are_both_off(option: str, before: Any, now: Any) -> bool:
    """Whether an option is false in one run and null, which a saved model may answer, in the other."""
    is_off = (before is False and now is None) or (before is None and now is False)
    return is_off and option.startswith("--")


def _networks(run: dict[str, Any]) -> list[str]:
    """Names of the networks whose configurations are among a run's properties."""
    names = {name.partition(".")[0] for name in run if "." in name and not name.startswith("--")}
    return sorted(names - {"objective"})


def network_folder(checkpoint: Path, hashed: bool = True) -> Path:
    """The folder of a checkpoint that holds every network: the averages, or, where one has none, the raw networks.

    Args:
        checkpoint: Its folder.
        hashed: See `verify`.

    Raises:
        UserError: A damaged file (named, with the checkpoint before it).
    """
    _read_whole(checkpoint, "--pretrained_model_name_or_path", hashed)
    networks, averages = checkpoint / "networks", checkpoint / "ema"
    return averages if all((averages / path.name).is_dir() for path in networks.iterdir()) else networks


def _read_whole(
    checkpoint: Path, option: str, hashed: bool = True, beside: Sequence[str] = (FROZEN,)
) -> tuple[int, str | None, dict[str, Any]]:
    """Step, identifier and run of a checkpoint whose files, and those `beside` it, are all as written.

    `option` is what it was named by.
    """
    try:
        manifest = read_json(checkpoint / MANIFEST)
        step, saved = int(manifest["step"]), dict(manifest["run"])
        identifier = None if manifest.get("id") is None else str(manifest["id"])
        expected = {
            folder / name: (int(about["size"]), str(about["sha256"]))
            for folder, files in (
                (checkpoint, manifest["files"]),
                *((checkpoint.parent / name, manifest.get(name, {})) for name in beside),
            )
            for name, about in dict(files).items()
        }
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{checkpoint / MANIFEST} is damaged or missing; {earlier(checkpoint, option)}") from None
    is_good = {path: path.is_file() and path.stat().st_size == size for path, (size, _) in expected.items()}
    if hashed and all(is_good.values()):
        with ThreadPoolExecutor() as pool:
            digests = pool.map(sha256, expected)
            is_good = {path: expected[path][1] == digest for path, digest in zip(expected, digests, strict=True)}
    for path in expected:
        if not is_good[path]:
            raise UserError(f"{path} is damaged or missing; {earlier(checkpoint, option)}")
    return step, identifier, saved


def earlier(checkpoint: Path, option: str = "--resume_from_checkpoint") -> str:
    """The end of an error about a checkpoint: which one came before it, as `option` names it."""
    siblings = list_checkpoints(checkpoint.parent)
    before = siblings[: siblings.index(checkpoint)] if checkpoint in siblings else []
    return f"the one before it: {option} {before[-1]}" if before else "there is no earlier checkpoint"
