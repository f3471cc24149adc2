"""Columns of an opened data set: images, undecoded, and labels."""

from __future__ import annotations

import contextlib
import itertools
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from .arguments import DataArguments
from .decoding import Encoded, Half, Record, Stack
from .sources import Source, Split


def _may_hold_images(feature: Any) -> bool:
    """Whether a column of this kind can be read as images, or as vectors."""
    if isinstance(feature, datasets.List):
        return isinstance(feature.feature, datasets.Value)
    if isinstance(feature, dict):
        return {"bytes", "path"} <= feature.keys()
    kinds = (datasets.Array2D, datasets.Array3D, datasets.Image)
    return isinstance(feature, kinds) or feature == datasets.Value("binary")


class ImageColumn:
    """Reads the images of one column, undecoded.

    Args:
        split: The split, streamed or not.
        column: Name of the column.
        place: Words for the split in error messages.
        option: Which option named the column.
        otherwise: What else a user may do where there is no such column: the end of a sentence, or nothing.

    Raises:
        UserError: There is no such column, or it holds no images.
    """

    def __init__(
        self, split: Split, column: str, place: str, option: str = "image_column", otherwise: str = ""
    ) -> None:
        features = split.features
        if features is None:
            raise UserError(f"{place} does not say which columns it has when streamed: leave out --streaming")
        if column not in features:
            known = ", ".join([name for name, each in features.items() if _may_hold_images(each)] or features)
            raise UserError(f"{place} has no column {column!r}: choose --{option} from {known}{otherwise}")
        self.column = column
        self.place = place
        feature = features[column]
        self._dtype: str | None = None
        if not _may_hold_images(feature):
            raise UserError(f"column {column!r} of {place} holds {feature}, not images: choose another --{option}")
        if isinstance(feature, (datasets.Array2D, datasets.Array3D)):
            self._dtype = feature.dtype
        elif isinstance(feature, datasets.List):
            self._dtype = "float32"
        elif not isinstance(feature, dict):
            split = split.cast_column(column, datasets.Image(decode=False))
        self.split = split
        self._table = (
            split.select_columns([column]).with_format("arrow") if isinstance(split, datasets.Dataset) else None
        )

    def fetch(self, rows: np.ndarray) -> Sequence[Encoded | np.ndarray]:
        """The images of some rows of a split that is not streamed; `rows` is ascending."""
        assert self._table is not None
        whole = rows[-1] - rows[0] == len(rows) - 1
        cells = self._table[slice(rows[0], rows[-1] + 1) if whole else rows][self.column]
        if self._dtype is not None:
            return [self.record(value) for value in cells.to_pylist()]
        data, paths = (cells.type.get_field_index(name) for name in ("bytes", "path"))
        records: list[Encoded | np.ndarray] = []
        for chunk in cells.chunks:
            parts = chunk.flatten()
            # Buffers, not bytes: where only headers are read, the rest of a file stays on disk.
            records += [Encoded(d.as_buffer(), p.as_py()) for d, p in zip(parts[data], parts[paths], strict=True)]
        return records

    def record(self, value: Any) -> Encoded | np.ndarray:
        """The image in one cell of a streamed split."""
        if self._dtype is not None:
            try:
                return np.asarray(value, dtype=self._dtype)
            except (ValueError, TypeError):
                # Ragged or with gaps; the decoder finds no shape in it and says so.
                return np.zeros(0, dtype=np.float32)
        return Encoded(None, None) if value is None else Encoded(value["bytes"], value["path"])

    def where(self, row: int, record: Record) -> str:
        """Words that tell a user which image is meant."""
        if isinstance(record, Encoded) and record.data is None and record.path is not None:
            return record.path
        path = f" ({record.path})" if isinstance(record, Encoded) and record.path is not None else ""
        return f"row {row}{path} of column {self.column!r} of {self.place}"


class StackedColumns:
    """Reads images whose channels are the images of several columns. As `ImageColumn`, but never streamed.

    Args:
        split: The split.
        columns: Names of the columns, in the order of the channels.
        place: Words for the split in error messages.
        option: Which option named the columns.
        mixed: Whether the images may be of several kinds, see `Stack`.

    Raises:
        UserError: There is no such column, it holds no images, or the split is streamed.
    """

    def __init__(
        self, split: Split, columns: Sequence[str], place: str, option: str = "image_columns", mixed: bool = False
    ) -> None:
        if isinstance(split, datasets.IterableDataset):
            raise UserError(f"--{option} and --streaming exclude each other: leave out --streaming")
        self.split = split
        self.place = place
        self.option, self.mixed = option, mixed
        self.parts = [ImageColumn(split, column, place, option) for column in columns]

    def fetch(self, rows: np.ndarray) -> Sequence[Record]:
        """The images of some rows; `rows` is ascending."""
        parts = zip(*(part.fetch(rows) for part in self.parts), strict=True)
        return [Stack(tuple(records), self.option, self.mixed) for records in parts]

    def where(self, row: int, record: Record) -> str:
        """Words that tell a user which image is meant."""
        return f"row {row} of columns {', '.join(part.column for part in self.parts)} of {self.place}"


class HalvedColumn:
    """Reads the left or the right halves of the images of a column. As `ImageColumn`, but never streamed.

    Args:
        column: The whole images.
        right: Which halves.
    """

    def __init__(self, column: ImageColumn, right: bool) -> None:
        self.column = column
        self.right = right
        self.split = column.split
        self.place = column.place

    def fetch(self, rows: np.ndarray) -> Sequence[Record]:
        """The images of some rows; `rows` is ascending."""
        return [Half(record, self.right) for record in self.column.fetch(rows)]

    def where(self, row: int, record: Record) -> str:
        """Words that tell a user which image is meant."""
        return self.column.where(row, record.whole if isinstance(record, Half) else record)


Images: TypeAlias = ImageColumn | StackedColumns | HalvedColumn


def file_names(images: Images, root: Path | None) -> Sequence[str | None]:
    """The name of the file in each row, below `root` and without the ending; None where there is none.

    Of files that lie in several folders of no known root, it is the folder that all have in common.
    """
    assert isinstance(images.split, datasets.Dataset)
    records = images.fetch(np.arange(len(images.split))) if len(images.split) else ()
    paths = [record.path if isinstance(record, Encoded) else None for record in records]
    folders = {os.path.dirname(path) for path in paths if path is not None and os.path.isabs(path)}
    base = str(root) if root is not None else os.path.commonpath(folders) if folders else None
    below = [path if path is None or base is None else path.removeprefix(base).lstrip(os.sep) for path in paths]
    return [None if path is None else os.path.splitext(path)[0] for path in below]


@dataclass(frozen=True)
class LabelColumn:
    """The classes of a data set, the same in all its splits.

    Attributes:
        column: Name of the column.
        class_names: Names of the labels 0, 1, ...; None for a streamed column of integers.
        positions: Label by stored value; None where the column already holds labels.
    """

    column: str
    class_names: tuple[str, ...] | None
    positions: Mapping[Any, int] | None

    def labels(self, split: datasets.Dataset, place: str) -> np.ndarray | None:
        """The labels of a split as `(rows,)` int64, None if it has none at all.

        Raises:
            UserError: Some rows have labels, some have none; or a label is that of no class.
        """
        if unlabelled(split, self.column):
            return None
        values = split.select_columns([self.column]).with_format("arrow")[:][self.column]
        missing = np.flatnonzero(pc.is_null(values).to_numpy())
        if len(missing):
            raise UserError(
                f"row {missing[0]} of {place} has no label in column {self.column!r}: fill it or remove it"
            )
        if self.positions is None:
            labels: np.ndarray = values.to_numpy().astype(np.int64)
            num_classes = len(self.class_names or ())
            wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
            if len(wrong):
                raise UserError(no_class(int(wrong[0]), place, int(labels[wrong[0]]), self.column, num_classes))
            return labels
        return np.array([self.positions[value] for value in values.to_pylist()], dtype=np.int64)


def no_class(row: int, place: str, label: int, column: str, num_classes: int) -> str:
    """The complaint about a label that is that of no class."""
    return (
        f"row {row} of {place} has label {label} in column {column!r}, whose {num_classes} classes are 0 to "
        f"{num_classes - 1}: correct it or remove the row"
    )


@contextlib.contextmanager
def reading(place: str, where: str = "") -> Iterator[None]:
    """Turns what `datasets` makes of unreadable files, and of the network, into one line."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, ImportError, tarfile.TarError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{place} cannot be read{where}: {reason}") from error


def unlabelled(split: Split, column: str) -> bool:
    """Whether no row has a label: all are empty, or -1 in a ClassLabel column; of a stream only the first is read."""
    has_classes = isinstance((split.features or {}).get(column), datasets.ClassLabel)
    if isinstance(split, datasets.IterableDataset):
        nothing = (None, -1) if has_classes else (None,)
        return all(row[column] in nothing for row in itertools.islice(split.decode(False), 1))
    values = split.select_columns([column]).with_format("arrow")[:][column]
    negative = pc.sum(pc.equal(values, -1)).as_py() or 0 if has_classes else 0
    return values.null_count + negative == len(split)


def find_labels(source: Source, args: DataArguments) -> LabelColumn | None:
    """Finds the classes: those of a ClassLabel column, or the sorted values of a column of strings or integers.

    Raises:
        UserError: The column that was asked for does not exist or holds no classes; the default one may.
    """
    asked_for = args.label_column != "label"
    features = next(iter(source.splits.values())).features or {}
    if args.label_column not in features:
        if asked_for:
            raise UserError(
                f"{source.name} has no column {args.label_column!r}: choose --label_column from {', '.join(features)}"
            )
        return None
    train = source.splits.get(args.train_split)
    with reading(f"split {args.train_split!r} of {source.name}"):
        is_unlabelled = train is not None and unlabelled(train, args.label_column)
    if is_unlabelled:
        if asked_for:
            raise UserError(
                f"column {args.label_column!r} of {source.name} holds no labels: choose another --label_column"
            )
        # What `imagefolder` makes of a folder with train/ and test/ but no classes: "test" becomes a label.
        return None
    feature = features[args.label_column]
    if isinstance(feature, datasets.ClassLabel):
        return LabelColumn(args.label_column, tuple(feature.names), None)
    if not (isinstance(feature, datasets.Value) and _is_class_type(feature.pa_type)):
        if asked_for:
            raise UserError(f"column {args.label_column!r} of {source.name} holds {feature}, not classes")
        return None
    if any(isinstance(split, datasets.IterableDataset) for split in source.splits.values()):
        if not pa.types.is_integer(feature.pa_type):
            raise UserError(
                f"the classes in column {args.label_column!r} of {source.name} are only known after reading all: "
                "leave out --streaming"
            )
        return LabelColumn(args.label_column, None, None)
    found = {value for split in source.splits.values() for value in split.unique(args.label_column)}
    values = sorted(found - {None})
    return LabelColumn(
        args.label_column, tuple(str(value) for value in values), {value: i for i, value in enumerate(values)}
    )


def _is_class_type(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )
