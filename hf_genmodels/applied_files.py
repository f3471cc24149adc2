"""What `apply` writes for each image, and how it knows what is there already."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from .data.listing import Listing
from .data.metadata import read_lines, relative_file
from .errors import UserError
from .files import replacing

SUFFIXES = (".png", ".npy")


class ImageFiles:
    """A file for each image, whole or not there: a PNG, or an array in `.npy`.

    Args:
        folder: Where they lie, under the names and in the sub-folders of the images.
        names: Of the images, relative to their folder.

    Raises:
        UserError: Two images differ in their suffixes alone, so that their files would have one name.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        counts = Counter(map(_stem, names))
        for name in names:
            if counts[_stem(name)] > 1:
                both = ", ".join(other for other in names if _stem(other) == _stem(name))
                raise UserError(f"{both} would have one name in {folder}: rename all but one")

    def find(self, name: str) -> str | None:
        """The file of an image, relative to the folder; None where there is none yet."""
        found = (_stem(name) + suffix for suffix in SUFFIXES)
        return next((path for path in found if (self.folder / path).is_file()), None)

    def has(self, name: str) -> bool:
        """Whether an image is done."""
        return self.find(name) is not None

    def write(self, name: str, result: Any) -> None:
        """Write what became of an image, a picture or an array."""
        path = self.folder / (_stem(name) + SUFFIXES[not isinstance(result, Image.Image)])
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            if isinstance(result, Image.Image):
                result.save(temporary)
            else:
                np.save(temporary, np.asarray(result))

    def finish(self, names: Sequence[str]) -> None:
        """Nothing is left to be done."""


class ScoreFile:
    """A line of numbers for each image, in the order in which they are made, and at the end in that of the images.

    Args:
        folder: Where it lies.
        kind: "csv", or "jsonl".
        scores: Names of the numbers.

    Raises:
        UserError: What is there was not written here.
    """

    def __init__(self, folder: Path, kind: str, scores: Sequence[str]) -> None:
        self.path, self.kind, self.scores = folder / f"scores.{kind}", kind, tuple(scores)
        self.rows: dict[str, Mapping[str, Any]] = {}
        if self.path.is_file():
            self.rows = {str(row["file_name"]): row for row in self._read()}
            self._save(list(self.rows), append=False)

    def _read(self) -> list[Mapping[str, Any]]:
        # the last line of a killed call may be cut; one with a line break may not
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        try:
            if self.kind == "jsonl":
                rows = [json.loads(line) for line in whole.splitlines()]
            else:
                rows = list(csv.DictReader(io.StringIO(whole, newline="")))
            return [{"file_name": row["file_name"], **{s: float(row[s]) for s in self.scores}} for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} cannot be read: {error}; choose another --output_dir") from error

    def has(self, name: str) -> bool:
        """Whether an image is done."""
        return name in self.rows

    def write(self, name: str, result: Mapping[str, float]) -> None:
        """Add the line of an image."""
        self.rows[name] = {"file_name": name, **{score: float(value) for score, value in result.items()}}
        self._save([name], append=self.path.is_file())

    def finish(self, names: Sequence[str]) -> None:
        """Put the lines in the order of the images."""
        self._save([name for name in names if name in self.rows], append=False)

    def _save(self, names: Sequence[str], append: bool) -> None:
        text = io.StringIO(newline="")
        if self.kind == "jsonl":
            text.writelines(json.dumps(self.rows[name]) + "\n" for name in names)
        else:
            writer = csv.DictWriter(text, ["file_name", *self.scores], lineterminator="\n")
            if not append:
                writer.writeheader()
            writer.writerows(self.rows[name] for name in names)
        if not append:
            with replacing(self.path) as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
            return
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error


def read_metadata(listing: Listing) -> dict[str, list[dict[str, Any]]]:
    """The rows of the metadata files of a folder, by the names of those files.

    Raises:
        UserError: One of them cannot be read, or names a file outside its folder.
    """
    found = {}
    for name in listing.metadata:
        lines = read_lines(listing.folder / name)
        for line, row in lines.items():
            for key in filter(_names_a_file, row):
                relative_file(listing.folder / name, line, key, row)
        found[name] = list(lines.values())
    return found


def carry_metadata(metadata: Mapping[str, Sequence[Mapping[str, Any]]], files: ImageFiles) -> None:
    """Write the metadata of a folder anew beside what was made of its images, with the names of those files.

    Lines that name an image of which nothing was made are left out.

    Args:
        metadata: Rows by the names of their files.
        files: What was made.

    Raises:
        UserError: One of them cannot be written.
    """
    for name, rows in metadata.items():
        target = files.folder / name
        renamed = [row for row in (_renamed(row, os.path.dirname(name), files) for row in rows) if row is not None]
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            _write_rows(temporary, renamed, list(rows[0]))


def _names_a_file(key: str) -> bool:
    return key == "file_name" or key.endswith("_file_name")


def _renamed(row: Mapping[str, Any], inside: str, files: ImageFiles) -> dict[str, Any] | None:
    result = dict(row)
    for key in filter(_names_a_file, row):
        found = files.find(os.path.normpath(os.path.join(inside, row[key])))
        if found is None:
            return None
        result[key] = os.path.relpath(found, inside or ".")
    return result


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    if path.suffix.lower() == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix.lower() == ".csv":
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
