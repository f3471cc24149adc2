"""Hostile inputs: what runs code if it is trusted, and how a test sees that nothing ran and nothing was lost."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tests.testing_utils.refusals import refused

DEEP = "[" * 100_000 + "]" * 100_000
Change = Callable[[Path], None]


class Canary:
    """Unpickled by someone who trusts it, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def canary_of(folder: Path) -> Path:
    """Where the code in a folder's hostile files would leave its mark."""
    return folder.parent / "canary"


def pickled(path: Path) -> None:
    """Code as pickle has it."""
    path.write_bytes(pickle.dumps(Canary(canary_of(path.parent))))


def torch_saved(path: Path) -> None:
    """Code as `torch.save` has it."""
    torch.save({"weight": Canary(canary_of(path.parent))}, path)


def numpy_pickled(path: Path) -> None:
    """Code as an array of objects has it."""
    import numpy as np

    content = io.BytesIO()
    np.save(content, np.array([Canary(canary_of(path.parent))], dtype=object), allow_pickle=True)
    path.write_bytes(content.getvalue())


def zipped(path: Path) -> None:
    """An archive whose member would leave its folder."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../canary", "")


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder with its content, and every link with its target."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@contextmanager
def one_line_and_nothing_lost(folder: Path, words: str) -> Iterator[None]:
    """The block raises a `UserError` of one line with these words in it, and every file below the folder stays."""
    before = snapshot(folder)
    with refused() as error:
        yield
    assert words in str(error.value), str(error.value)
    assert len(str(error.value)) < 1000
    assert snapshot(folder) == before


def changed_json(name: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    """A change of a JSON file, as parsed."""

    def apply(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text())
        result = change(content)
        path.write_text(json.dumps(content if result is None else result))

    return apply


def with_values(name: str, **values: Any) -> Change:
    """A JSON file with other values."""
    return changed_json(name, lambda content: {**content, **values})


def written(name: str, content: str | bytes) -> Change:
    """A file with another content."""

    def apply(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return apply


def cut(name: str, count: int) -> Change:
    """A file without its last bytes."""

    def apply(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-count])

    return apply


def replaced_by_code(name: str, code: Callable[[Path], None]) -> Change:
    """A file whose content would run code."""
    return lambda folder: code(folder / name)
