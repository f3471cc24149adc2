"""Local folders with `.npy` images, which `imagefolder` would pass over; splits, labels and columns as it has them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from ..errors import UserError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm")
METADATA = "metadata.jsonl"


def holds_arrays(folder: Path) -> bool:
    """Whether there is a `.npy` file in the folder, or below it."""
    return any(True for _ in _image_files(folder, (".npy",)))


def array_folder(folder: Path) -> Mapping[str, datasets.Dataset]:
    """The images of a folder by split, undecoded.

    Sub-folders `train`, `validation` and `test` are splits. Where a split's folder has a `metadata.jsonl`, its lines
    are the examples: a key `file_name` or `<column>_file_name` names a file, relative to it, for the column `image` or
    `<column>`; other keys are columns of their own. Elsewhere every image is an example, and where all lie equally
    deep in sub-folders of several names, these names are the labels.

    Raises:
        UserError: A `metadata.jsonl` cannot be used or names a file that is missing, or not every split has one.
    """
    roots = {name: folder / name for name in ("train", "validation", "test") if (folder / name).is_dir()}
    if roots and (folder / METADATA).is_file():
        raise UserError(
            f"{folder / METADATA} lies beside the split folders {', '.join(roots)}: put one into each of them, with "
            "paths relative to it"
        )
    roots = roots or {"train": folder}
    described = [name for name, root in roots.items() if (root / METADATA).is_file()]
    if not described:
        return _found(folder, roots)
    for name, root in roots.items():
        if name not in described:
            raise UserError(f"{root} has no {METADATA}, unlike {roots[described[0]]}: write one for every split")
    splits = {name: _described(root / METADATA) for name, root in roots.items()}
    for name, split in splits.items():
        _check_alike(roots[described[0]] / METADATA, splits[described[0]], roots[name] / METADATA, split)
    return splits


def _image_files(folder: Path, endings: tuple[str, ...]) -> Iterable[Path]:
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for file in sorted(files):
            if file.lower().endswith(endings) and not file.startswith("."):
                yield Path(directory, file)


def _found(folder: Path, roots: Mapping[str, Path]) -> Mapping[str, datasets.Dataset]:
    """Every image is an example."""
    files = {name: list(_image_files(root, (".npy", *IMAGE_ENDINGS))) for name, root in roots.items()}
    everything = [path for paths in files.values() for path in paths]
    labels = sorted({path.parent.name for path in everything})
    labelled = len(labels) > 1 and len({len(path.relative_to(folder).parts) for path in everything}) == 1
    splits = {}
    for name, paths in files.items():
        columns: dict[str, list[Any]] = {"image": [{"bytes": None, "path": str(path)} for path in paths]}
        features: dict[str, Any] = {"image": datasets.Image(decode=False)}
        if labelled and labels != sorted(roots):
            columns["label"] = [path.parent.name for path in paths]
            features["label"] = datasets.ClassLabel(names=labels)
        splits[name] = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return splits


def _described(metadata: Path) -> datasets.Dataset:
    """Every line of the metadata is an example."""
    lines = _lines(metadata)
    keys = list(dict.fromkeys(key for values in lines.values() for key in values))
    columns: dict[str, Any] = {}
    features: dict[str, Any] = {}
    for key in keys:
        if key == "file_name" or key.endswith("_file_name"):
            column = key.removesuffix("file_name").removesuffix("_") or "image"
            cells: list[Any] = [_file(metadata, number, key, values) for number, values in lines.items()]
            feature: Any = datasets.Image(decode=False)
        else:
            column, cells = key, [values.get(key) for values in lines.values()]
            feature = _scalars(metadata, key, cells)
        if column in columns:
            raise UserError(f"{metadata} has two keys for the column {column!r}, one is {key!r}: rename it")
        columns[column], features[column] = cells, feature
    if not any(isinstance(feature, datasets.Image) for feature in features.values()):
        raise UserError(f"{metadata} names no images: give every line a 'file_name', or two such as 'a_file_name'")
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _lines(metadata: Path) -> dict[int, dict[str, Any]]:
    """The objects in the lines that are not empty, by their number from 1."""
    lines = {}
    for number, line in enumerate(metadata.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            lines[number] = json.loads(line)
        except ValueError as error:
            raise UserError(f"line {number} of {metadata} is no JSON: {error}") from error
        if not isinstance(lines[number], dict):
            raise UserError(f'line {number} of {metadata} is no JSON object, such as {{"file_name": "1.npy"}}')
    if not lines:
        raise UserError(f"{metadata} is empty: give it a line for every example, or remove it")
    return lines


def _file(metadata: Path, number: int, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    name = values.get(key)
    if not isinstance(name, str):
        raise UserError(f"line {number} of {metadata} has no {key!r}: name a file, relative to {metadata.parent}")
    path = metadata.parent / name
    if not path.is_file():
        raise UserError(f"line {number} of {metadata} names {path}, and there is no such file: correct the line")
    return {"bytes": None, "path": str(path)}


def _scalars(metadata: Path, key: str, cells: list[Any]) -> datasets.Value:
    try:
        kind = pa.array(cells).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        kind = pa.struct([])  # of several kinds
    if pa.types.is_nested(kind):
        raise UserError(f"{key!r} in {metadata} must be a word or a number, the same kind in every line: correct it")
    return datasets.Features.from_arrow_schema(pa.schema([(key, kind)]))[key]


def _check_alike(first: Path, expected: datasets.Dataset, other: Path, split: datasets.Dataset) -> None:
    """The splits of a data set have the same columns; one that is empty everywhere is of any kind."""
    nothing = datasets.Value("null")
    for column in dict.fromkeys([*expected.features, *split.features]):
        a, b = expected.features.get(column), split.features.get(column)
        if a is None or b is None or (a != b and nothing not in (a, b)):
            raise UserError(f"{first} and {other} differ in the column {column!r}: give all splits the same columns")
