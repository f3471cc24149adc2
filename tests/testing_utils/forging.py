"""Checkpoints with a file of another content, which their manifests say is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hf_genmodels.files import sha256


def forge(checkpoint: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a file of tensors and values, and have the manifest say that it is right."""
    path = checkpoint / name
    torch.save(change(torch.load(path, weights_only=True)), path)
    sign(checkpoint, name)


def sign(checkpoint: Path, name: str) -> None:
    path, manifest = checkpoint / name, json.loads((checkpoint / "checkpoint.json").read_text())
    manifest["files"][name] = {"size": path.stat().st_size, "sha256": sha256(path)}
    (checkpoint / "checkpoint.json").write_text(json.dumps(manifest))


def put(*keys: Any, value: Any) -> Callable[[Any], Any]:
    """A change of one entry; None as value removes it."""

    def change(state: Any) -> Any:
        inner = state
        for key in keys[:-1]:
            inner = inner[key]
        if value is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        return state

    return change
