"""What reference runs that can be stopped at any moment share: figures in a file, and runs that are trained once."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_genmodels.data import DataArguments, Layout, evaluation_batches, load_split
from hf_genmodels.files import read_json
from hf_genmodels.training.entry import train_family

RESUMABLE = "--checkpoints_total_limit 1 --resume_from_checkpoint latest"


class Results:
    """Figures by name, in a file, with the settings they were made with.

    Args:
        path: Of the file.
        settings: The command line's options; those in `FREE` may change from call to call.

    Raises:
        SystemExit: The file's figures were made with other settings.
    """

    FREE = ("output_dir", "threads", "tasks", "seeds", "lambdas", "captures", "runs", "calls")

    def __init__(self, path: Path, settings: argparse.Namespace) -> None:
        self.path = path
        self.values: dict[str, Any] = read_json(path) if path.is_file() else {}
        given = {name: str(value) for name, value in vars(settings).items() if name not in self.FREE}
        for name, value in self.values.setdefault("settings", given).items():
            if given.get(name) != value:
                sys.exit(
                    f"error: {path} was made with --{name} {value}, not {given.get(name)}; use another --output_dir"
                )

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The figure, measured unless it is known."""
        if name not in self.values:
            start = time.monotonic()
            self.values[name] = measure()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(self.path.name + ".part")
            part.write_text(json.dumps(self.values, indent=2), encoding="utf-8")
            part.replace(self.path)
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
        train_family(family, ["--output_dir", str(folder), *words, *RESUMABLE.split()])
    return folder


def seconds_of(folder: Path) -> float:
    """Time a run took to train."""
    seconds: float = read_json(folder / "metrics.json")["seconds"]
    return seconds


def pairs(data: DataArguments, split: str) -> tuple[Tensor, Tensor]:
    """All images of a split and their targets, in [0, 1]."""
    batches = list(evaluation_batches(load_split(data, split, Layout("pair")), batch_size=500))
    source, target = (
        (torch.cat([batch[name] for batch in batches]) + 1) / 2 for name in ("conditioning_image", "target_image")
    )
    return source, target
