"""The figures of an evaluation in the `metrics.json` of a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json


def write_evaluation(folder: str | os.PathLike[str], results: list[dict[str, Any]]) -> None:
    """Merge results into the "evaluation" list of `folder/metrics.json`, which is created when absent.

    A result with the name and settings of an earlier one takes its place; everything else in the file stays.

    Args:
        folder: A training output folder, or any other that exists.
        results: As from `evaluate_pipeline`.

    Raises:
        UserError: The file is no JSON object, or cannot be written.
    """
    path = Path(folder) / "metrics.json"
    content: dict[str, Any] = read_json(path) if path.exists() else {}
    merged = {_key(entry): entry for entry in [*content.get("evaluation", []), *results]}
    content["evaluation"] = list(merged.values())
    temporary = path.with_name("metrics.json.part")
    try:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _key(entry: dict[str, Any]) -> str:
    return json.dumps([entry["name"], entry["settings"]], sort_keys=True)
