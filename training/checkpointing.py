"""Checkpoints: complete or not there at all, checked when read, named in every error.

`checkpoint-<step>/` holds `networks/<name>/` and `ema/<name>/` (as `save_pretrained` writes them), `state.pt`
(optimisers, gradient scaler, the objective's own state, how far the run was), `random-<rank>.pt`, and
`checkpoint.json`: what run it belongs to and the size and SHA-256 of every other file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hf_genmodels.errors import UserError
from hf_genmodels.files import read_json, sha256

MANIFEST = "checkpoint.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Finished checkpoints of an output folder, oldest first."""
    found = [
        (int(match[1]), path) for path in output_dir.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


@contextmanager
def writing(what: str, output_dir: Path) -> Iterator[None]:
    """Turn a failed write (disk full, no permission) into a `UserError` that says which checkpoint is still good."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # safetensors reports a full disk as a SafetensorError; torch as a RuntimeError that says nothing of the disk
        said = error.__context__ if isinstance(error.__context__, OSError) else error
        good = list_checkpoints(output_dir)
        intact = f"{good[-1]} is intact" if good else "there is no earlier checkpoint"
        reason = " ".join(str(said).split()) or type(said).__name__
        raise UserError(f"cannot write {what} in {output_dir}: {reason}; {intact}") from error


def partial_folder(output_dir: Path, step: int) -> Path:
    """Where a checkpoint is written before it gets its name; remains of a killed run are removed by `begin`."""
    return output_dir / f".partial-checkpoint-{step}"


def begin(output_dir: Path, step: int) -> Path:
    """An empty folder to write checkpoint `step` into (one process calls this)."""
    for stale in output_dir.glob(".partial-checkpoint-*"):
        shutil.rmtree(stale)
    folder = partial_folder(output_dir, step)
    folder.mkdir(parents=True)
    return folder


def finish(folder: Path, output_dir: Path, step: int, run: dict[str, Any]) -> Path:
    """List the files, write the manifest and give the folder its name (one process, after all have written)."""
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"run": run, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    final = output_dir / f"checkpoint-{step}"
    if final.exists():  # a resumed run passes its own later checkpoints again
        shutil.rmtree(final)
    folder.rename(final)
    return final


def prune(output_dir: Path, limit: int | None) -> None:
    """Remove the oldest checkpoints beyond `limit`."""
    if limit is not None:
        for path in list_checkpoints(output_dir)[:-limit]:
            shutil.rmtree(path)


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


def verify(checkpoint: Path, run: dict[str, Any]) -> None:
    """Check that a checkpoint is whole and belongs to this run.

    Args:
        checkpoint: Its folder.
        run: What must be the same: {option or property: value}.

    Raises:
        UserError: A damaged file (named, with the checkpoint before it), or another run.
    """
    try:
        manifest = read_json(checkpoint / MANIFEST)
        saved, files = dict(manifest["run"]), dict(manifest["files"])
    except (UserError, KeyError, TypeError, ValueError):
        raise UserError(f"{checkpoint / MANIFEST} is damaged or missing; {_earlier(checkpoint)}") from None
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file() or path.stat().st_size != expected["size"] or sha256(path) != expected["sha256"]:
            raise UserError(f"{path} is damaged or missing; {_earlier(checkpoint)}")
    for name, value in run.items():
        if saved.get(name) != value:
            raise UserError(
                f"{checkpoint} was made with {name} = {_short(saved.get(name))}, this run has {_short(value)}; "
                "resume with the same, or start from its weights with --pretrained_model_name_or_path"
            )


def _earlier(checkpoint: Path) -> str:
    siblings = list_checkpoints(checkpoint.parent)
    earlier = siblings[: siblings.index(checkpoint)] if checkpoint in siblings else []
    if not earlier:
        return "there is no earlier checkpoint"
    return f"the one before it is {earlier[-1]}: --resume_from_checkpoint {earlier[-1].name}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
