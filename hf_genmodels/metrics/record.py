"""The figures of a training run and of evaluations in the `metrics.json` of a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json, replacing


def read_metrics(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """`metrics.json` of a folder, {} if there is none.

    Returns:
        Of a training run "step", "seconds", "train" and "validation" (figures by name), "environment", "warnings", and
        "best" (the step whose networks were chosen, by which figures, among how many evaluations);
        of evaluations "evaluation", a list of {"name", "value", "settings"}, in which may stand a "note".

    Raises:
        UserError: The file is no JSON object, or something in it is of another type.
    """
    path = Path(folder) / "metrics.json"
    if not path.exists():
        return {}
    content = read_json(path)
    for name, (is_valid, what) in _CONTENT.items():
        if name in content and not is_valid(content[name]):
            raise UserError(f"{path}: {name} must be {what}, got {str(content[name])[:60]!r}")
    return content


def write_evaluation(folder: str | os.PathLike[str], results: list[dict[str, Any]]) -> None:
    """Merge results into the "evaluation" list of `folder/metrics.json`, which is created when absent.

    A result with the name and settings of an earlier one takes its place; everything else in the file stays.

    Args:
        folder: A training output folder, or any other that exists.
        results: As from `evaluate_pipeline`.

    Raises:
        UserError: The file is damaged, or cannot be written.
    """
    content = read_metrics(folder)
    merged = {_key(entry): entry for entry in [*content.get("evaluation", []), *results]}
    content["evaluation"] = list(merged.values())
    with replacing(Path(folder) / "metrics.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _key(entry: dict[str, Any]) -> str:
    return json.dumps([entry["name"], entry["settings"]], sort_keys=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_choice(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("step"), int)
        and isinstance(value.get("evaluations"), int)
        and _are_figures(value.get("by"))
    )


def _are_lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _are_results(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(result, dict)
        and isinstance(result.get("name"), str)
        and _is_number(result.get("value"))
        and isinstance(result.get("note", ""), str)
        and isinstance(settings := result.get("settings"), dict)
        and all(isinstance(settings.get(name, ""), str) for name in ("dataset", "split"))
        for result in value
    )


_CONTENT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "step": (lambda value: isinstance(value, int), "a number of steps"),
    "seconds": (_is_number, "a number"),
    "train": (_are_figures, "an object of numbers"),
    "validation": (_are_figures, "an object of numbers"),
    "environment": (lambda value: isinstance(value, dict), "an object"),
    "best": (_is_choice, 'an object {"step": number, "by": {name: number}, "evaluations": number}'),
    "warnings": (_are_lines, "a list of sentences"),
    "evaluation": (_are_results, 'a list of {"name": text, "value": number, "settings": {"dataset": text, ...}}'),
}
