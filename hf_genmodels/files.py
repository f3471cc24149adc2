"""Reading, checking and replacing files, without torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError

# The libraries whose classes a model's files may name.
LIBRARIES = ("hf_genmodels", "diffusers", "transformers")
# By which a checkpoint of training is known.
CHECKPOINT_MANIFEST = "checkpoint.json"
# Levels of lists and objects; far more than any of ours has, far fewer than Python's recursion bears.
DEEPEST_JSON = 50


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: The file is missing or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; is {path.parent} a folder written by save_pretrained?") from None
    except (OSError, ValueError) as error:  # what is no UTF-8 and no JSON, and integers of thousands of digits
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{path} cannot be read as JSON: it is nested too deeply") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object")
    layer: list[Any] = [value]
    for _ in range(DEEPEST_JSON):
        layer = [child for parent in layer for child in _children(parent)]
    if layer:
        raise UserError(f"{path} cannot be read as JSON: it is nested too deeply")
    return value


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end of the block.

    A block that fails leaves what was at `path` as it was, and nothing beside it.

    Raises:
        UserError: A write of the block failed (disk full, no permission), or `path` is a folder.
    """
    # Short, for names of files have at most 255 bytes; the suffix says in which format to write.
    temporary = path.with_name(f".part-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {_reason(error)}") from error
    finally:
        with suppress(OSError):  # it is gone where it took its place, and the block's own error says more
            temporary.unlink()


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """An empty folder inside `folder`, whose contents move to `folder` at the end, in place of files of their names.

    A block that fails leaves `folder` as it was, or absent.

    Raises:
        UserError: A write of the block failed (disk full, no permission), or `folder` is a file.
    """
    from safetensors import SafetensorError  # which takes its time

    absent = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as temporary:
            yield Path(temporary)
            for path in sorted(Path(temporary).iterdir()):
                os.replace(path, folder / path.name)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be written: {_reason(error)}") from error
    finally:
        if absent and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all, into a folder that is made if need be.

    Raises:
        UserError: It cannot be read or written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent} cannot be made: {_reason(error)}") from error
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(1 << 23))  # long enough for another thread to work while it is hashed
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            digest.update(block[:size])
    return digest.hexdigest()
