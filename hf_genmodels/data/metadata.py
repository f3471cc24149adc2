"""Files beside images that say which image is which example, and what else belongs to it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError

# Deeper columns overflow Python's stack where `datasets` copies their description.
DEEPEST = 20
# Numbers as they are usually written, of at most 18 digits, which 64 bits hold: 007 and longer ones are names.
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
NUMBER = re.compile(rf"{INTEGER.pattern}(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# What a line of a file holds, by the words for that line.
Lines = dict[str, dict[str, Any]]


def described(metadata: Path, label_column: str) -> datasets.Dataset:
    """The images of a metadata file, undecoded; every line is an example.

    A key `file_name` or `<column>_file_name` names a file, relative to the folder of the metadata and inside it, for
    the column `image` or `<column>`; other keys are columns of their own.

    Args:
        metadata: `metadata.jsonl`, `metadata.csv` or `metadata.parquet`.
        label_column: The key of the classes, which are words or numbers.

    Raises:
        UserError: The file cannot be used or names one that is missing.
    """
    lines = read_lines(metadata)
    keys = list(dict.fromkeys(key for values in lines.values() for key in values))
    columns: dict[str, pa.Array] = {}
    features: dict[str, Any] = {}
    for key in keys:
        if key == "file_name" or key.endswith("_file_name"):
            column = key.removesuffix("file_name").removesuffix("_") or "image"
            cells = image_cells([_file(metadata, line, key, values) for line, values in lines.items()])
            feature: Any = datasets.Image(decode=False)
        else:
            column = key
            cells, feature = _plain(metadata, key, [values.get(key) for values in lines.values()], key == label_column)
        if column in columns:
            raise UserError(f"{metadata} has two keys for the column {column!r}, one is {key!r}: rename it")
        columns[column], features[column] = cells, feature
    if not any(isinstance(feature, datasets.Image) for feature in features.values()):
        raise UserError(f"{metadata} names no images: give every line a 'file_name', or two such as 'a_file_name'")
    return undecoded(columns, features)


def image_cells(paths: Sequence[str]) -> pa.Array:
    """A column of images of which the paths are known."""
    stored = [pa.nulls(len(paths), pa.binary()), pa.array(paths, pa.string())]
    return pa.StructArray.from_arrays(stored, ["bytes", "path"])


def undecoded(columns: Mapping[str, pa.Array], features: Mapping[str, Any]) -> datasets.Dataset:
    """A data set of columns as they are stored."""
    info = datasets.DatasetInfo(features=datasets.Features(features))
    return datasets.Dataset(pa.table(dict(columns)), info=info)


def check_alike(first: Path, expected: datasets.Dataset, other: Path, split: datasets.Dataset) -> None:
    """Refuses metadata with other columns than the first ones; a column that is empty everywhere is of any kind."""
    nothing = datasets.Value("null")
    for column in dict.fromkeys([*expected.features, *split.features]):
        a, b = expected.features.get(column), split.features.get(column)
        if a is None or b is None or (a != b and nothing not in (a, b)):
            raise UserError(f"{first} and {other} differ in the column {column!r}: give all splits the same columns")


def read_lines(metadata: Path) -> Lines:
    """The lines of a metadata file that are not empty.

    Raises:
        UserError: It cannot be read, or is empty.
    """
    try:
        if metadata.suffix.lower() == ".jsonl":
            lines = _json_lines(metadata)
        else:
            lines = _table_rows(metadata)
    except OSError as error:
        raise UserError(f"{metadata} cannot be read: {error.strerror or error}") from error
    if not lines:
        raise UserError(f"{metadata} is empty: give it a line for every example, or remove it")
    return lines


def _json_lines(metadata: Path) -> Lines:
    lines = {}
    for number, line in enumerate(metadata.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise UserError(f"line {number} of {metadata} is no JSON: {reason}") from error
        if not isinstance(values, dict):
            raise UserError(f'line {number} of {metadata} is no JSON object, such as {{"file_name": "1.npy"}}')
        lines[f"line {number}"] = values
    return lines


def _table_rows(metadata: Path) -> Lines:
    is_csv = metadata.suffix.lower() == ".csv"
    try:
        rows = _csv_rows(metadata) if is_csv else pq.read_table(metadata).to_pylist()
    except pd.errors.EmptyDataError:
        return {}
    except (ValueError, pa.ArrowException) as error:
        kind = "table of comma-separated values" if is_csv else "parquet file"
        raise UserError(f"{metadata} is no {kind}: {str(error).splitlines()[0]}") from error
    return {f"row {number}": values for number, values in enumerate(rows, start=1)}


def _csv_rows(metadata: Path) -> list[dict[str, Any]]:
    """Rows of text, and of numbers where a whole column is such; nothing in a cell is None."""
    # Every cell as it is written: pandas would take 007 for 7, and the class NA for none.
    table = pd.read_csv(metadata, dtype=str, na_filter=False)
    columns = {key: _numbers_or_text(table[key].tolist()) for key in table.columns}
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _numbers_or_text(cells: list[str]) -> Sequence[int | float | str | None]:
    for pattern, kind in ((INTEGER, int), (NUMBER, float)):
        if all(pattern.fullmatch(cell) for cell in cells if cell):
            return [kind(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]


def relative_file(metadata: Path, line: str, key: str, values: Mapping[str, Any]) -> str:
    """The path that a line names, relative to the folder of its metadata.

    Raises:
        UserError: It names none, or one outside that folder.
    """
    name = values.get(key)
    if not isinstance(name, str):
        raise UserError(f"{line} of {metadata} has no {key!r}: name a file, relative to {metadata.parent}")
    relative = os.path.normpath(name)
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
        raise UserError(f"{line} of {metadata} names {name!r}: give a path inside {metadata.parent}, relative to it")
    return relative


def _file(metadata: Path, line: str, key: str, values: Mapping[str, Any]) -> str:
    path = os.path.join(metadata.parent, relative_file(metadata, line, key, values))
    if not os.path.isfile(path):
        raise UserError(f"{line} of {metadata} names {path}, and there is no such file: correct the line")
    return path


def _plain(metadata: Path, key: str, cells: list[Any], is_label: bool) -> tuple[pa.Array, Any]:
    """A column of anything but images."""
    words = "a word or a number, the same kind" if is_label else f"of the same kind, nested at most {DEEPEST} times,"
    problem = UserError(f"{key!r} in {metadata} must be {words} in every line: correct it")
    try:
        column = pa.array(cells)
        if _depth(column.type) > DEEPEST:
            raise problem
        feature = datasets.Features.from_arrow_schema(pa.schema([(key, column.type)]))[key]
    except (pa.ArrowException, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise problem from error
    if is_label and pa.types.is_nested(column.type):
        raise problem
    return column, feature


def _depth(kind: pa.DataType) -> int:
    return 1 + max((_depth(kind.field(i).type) for i in range(kind.num_fields)), default=-1)
