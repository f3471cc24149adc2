"""What reference runs that can be stopped at any moment share: figures in a file, and runs that are trained once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hf_genmodels.files import read_json
from hf_genmodels.training.entry import train

RESUMABLE = "--checkpoints_total_limit 1 --resume_from_checkpoint latest"


class Results:
    """Figures by name, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = read_json(path) if path.is_file() else {}

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The figure, measured unless it is known."""
        if name not in self.values:
            start = time.monotonic()
            self.values[name] = measure()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.values, indent=2), encoding="utf-8")
            print(f"{name}: {self.values[name]} ({time.monotonic() - start:.0f} s)", flush=True)
        return self.values[name]


def train_once(family: str, folder: Path, *options: str | Sequence[str]) -> Path:
    """Train a run, or go on with it, unless it is finished.

    Args:
        family: Of the run.
        folder: Of its output.
        options: Lines of options, or lists of words where a word may hold a space.

    Returns:
        The folder.
    """
    if not (folder / "metrics.json").is_file():
        words = [word for line in options for word in (line.split() if isinstance(line, str) else line)]
        train(family, ["--output_dir", str(folder), *words, *RESUMABLE.split()])
    return folder


def seconds_of(folder: Path) -> float:
    """Time a run took to train."""
    seconds: float = read_json(folder / "metrics.json")["seconds"]
    return seconds
