"""`DataArguments` -> data sets: chooses the splits, looks at every image once, decodes what fits into memory."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import datasets
import numpy as np

from ..errors import UserError
from . import builtin
from .arguments import DataArguments
from .decoding import Reader, resize
from .sets import SUBSET, ArrayDataset, ImageDataset, LazyDataset, StreamedDataset, generator
from .sources import ImageColumn, LabelColumn, Source, find_labels, open_source, unlabelled
from .spec import DataSpec, fingerprint
from .survey import Expected, Survey, preview

# Sets whose decoded size is at most this are held in memory.
IN_MEMORY_BYTES = 2 * 1024**3
# "training" is augmented and cut to max_train_samples; neither it nor "validation" holds the excluded label.
Role = Literal["training", "validation", "evaluation"]


@dataclass(frozen=True)
class LoadedData:
    """What a training script learns from.

    Attributes:
        spec: The training data's shape, units and identity.
        train: The training data.
        validation: What the validation loss is measured on; None when the data have no such split.
        validation_split: Its name.
    """

    spec: DataSpec
    train: ImageDataset
    validation: ImageDataset | None
    validation_split: str | None


def load_data(args: DataArguments, seed: int) -> LoadedData:
    """Loads the training data and, where there are some, the validation data.

    `exclude_label` is left out of both. Validation images must be of the training images' kind.

    Args:
        args: The user's options.
        seed: Draws the examples that `max_train_samples` keeps.

    Raises:
        UserError: The data cannot be found, read or used; the message names the file or row.
    """
    _check(args)
    if _is_builtin(args):
        train: ImageDataset = _builtin_dataset(args, args.train_split, "training", seed)
        name = _validation_split(args, builtin.SPLITS)
        validation: ImageDataset | None = None if name is None else _builtin_dataset(args, name, "validation", seed)
        return LoadedData(train.spec, train, validation, name)
    source = open_source(args)
    name = _validation_split(args, source.splits)
    train, expected = _source_dataset(args, source, args.train_split, "training", seed, None)
    validation = None if name is None else _source_dataset(args, source, name, "validation", seed, expected)[0]
    return LoadedData(train.spec, train, validation, name)


def load_split(args: DataArguments, split: str) -> ImageDataset:
    """Loads one split for evaluation: every class, every example, no augmentation, crops at the centre.

    Raises:
        UserError: As `load_data`.
    """
    _check(args)
    if _is_builtin(args):
        return _builtin_dataset(args, split, "evaluation", 0)
    return _source_dataset(args, open_source(args), split, "evaluation", 0, None)[0]


def _is_builtin(args: DataArguments) -> bool:
    return args.dataset_name is not None and args.dataset_name.startswith(builtin.PREFIX)


def _check(args: DataArguments) -> None:
    if (args.dataset_name is None) == (args.train_data_dir is None):
        raise UserError("give exactly one of --dataset_name and --train_data_dir")
    for option in ("resolution", "max_train_samples"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option} {value} is not a positive number")
    if _is_builtin(args):
        if args.streaming:
            raise UserError(f"{args.dataset_name} is generated in memory: leave out --streaming")
        if args.label_column != "label":
            raise UserError(f"{args.dataset_name} has no column {args.label_column!r}: leave out --label_column")


def _validation_split(args: DataArguments, splits: Collection[str]) -> str | None:
    if args.validation_split is not None:
        return args.validation_split
    return next((name for name in ("validation", "test") if name in splits and name != args.train_split), None)


def _excluded(args: DataArguments, class_names: tuple[str, ...] | None) -> int | None:
    if args.exclude_label is None:
        return None
    if class_names is not None and args.exclude_label in class_names:
        return class_names.index(args.exclude_label)
    if args.exclude_label.isdecimal() and (class_names is None or int(args.exclude_label) < len(class_names)):
        return int(args.exclude_label)
    known = "an index" if class_names is None else f"one of {', '.join(class_names)} or an index"
    raise UserError(f"--exclude_label {args.exclude_label} is no class of the data: give {known}")


def _choose(
    args: DataArguments, role: Role, seed: int, count: int, labels: np.ndarray | None, names: tuple[str, ...] | None
) -> np.ndarray:
    """The rows, ascending, that a data set consists of."""
    rows = np.arange(count)
    if role != "evaluation" and args.exclude_label is not None:
        if labels is None:
            raise UserError(f"--exclude_label {args.exclude_label}: the data have no column {args.label_column!r}")
        rows = rows[labels != _excluded(args, names)]
    if role == "training" and args.max_train_samples is not None:
        rows = np.sort(generator(seed, 0, SUBSET).permutation(rows)[: args.max_train_samples])
    return rows


def _refuse_image_options(args: DataArguments, name: str) -> None:
    for option in ("resolution", "random_flip"):
        if getattr(args, option):
            raise UserError(f"{name} holds vectors, not images: leave out --{option}")


def _builtin_dataset(args: DataArguments, split: str, role: Role, seed: int) -> ArrayDataset:
    assert args.dataset_name is not None
    content = builtin.load_builtin(args.dataset_name, args.dataset_config_name, split)
    rows = _choose(args, role, seed, len(content.pixels), content.labels, content.class_names)
    if len(rows) == 0:
        raise UserError(f"no example is left in split {split!r} of {args.dataset_name}")
    pixels = content.pixels[rows]
    if pixels.ndim == 2:
        _refuse_image_options(args, args.dataset_name)
    elif args.resolution is not None and args.resolution != pixels.shape[2]:
        images = [resize(np.moveaxis(image, 0, 2), args.resolution, content.value_scale) for image in pixels]
        pixels = np.moveaxis(np.stack(images), 3, 1)
    config = args.dataset_config_name
    spec = _spec(args.dataset_name, config, split, pixels.shape[1:], content.value_scale, content.class_names, pixels)
    labels = None if content.labels is None else content.labels[rows]
    extras = {name: column[rows] for name, column in content.extras.items()}
    return ArrayDataset(pixels, spec, labels, args.random_flip and role == "training", extras)


def _spec(
    name: str,
    config: str | None,
    split: str,
    shape: tuple[int, ...],
    value_scale: float,
    class_names: tuple[str, ...] | None,
    content: np.ndarray | int | None,
) -> DataSpec:
    """A spec from the content in memory, the number of examples, or None for a stream."""
    count = len(content) if isinstance(content, np.ndarray) else content
    crc = zlib.crc32(np.ascontiguousarray(content).data) if isinstance(content, np.ndarray) else None
    return DataSpec(
        name=name,
        channels=shape[0],
        size=min(shape[1:]) if len(shape) > 1 else None,
        value_scale=value_scale,
        class_names=class_names,
        num_examples=count,
        fingerprint=fingerprint(name, config, split, shape, count, crc),
    )


def _source_dataset(
    args: DataArguments, source: Source, split: str, role: Role, seed: int, expected: Expected | None
) -> tuple[ImageDataset, Expected]:
    if split not in source.splits:
        raise UserError(f"{source.name} has no split {split!r}: choose one of {', '.join(source.splits)}")
    place = f"split {split!r} of {source.name}"
    data = source.splits[split]
    images = ImageColumn(data, args.image_column, place)
    column = find_labels(source, args)
    names = None if column is None else column.class_names
    if isinstance(data, datasets.IterableDataset):
        return _streamed(args, source, split, role, images, column, expected)

    labels = None if column is None else column.labels(data, place)
    rows = _choose(args, role, seed, len(data), labels, names)
    if len(rows) == 0:
        raise UserError(f"no example is left in {place}")
    survey = Survey(args, images)
    headers = survey.headers(rows)
    rows = np.array([row for row in rows if row in headers])
    expected = expected or survey.expected(headers)
    if expected.kind.vector:
        _refuse_image_options(args, source.name)
    reader = Reader(expected.kind, expected.size, args.resolution, args.center_crop or role != "training")
    rows = survey.matching(rows, headers, reader)
    shapes = {reader.target_shape(headers[row]) for row in rows.tolist()}
    shape = next(iter(shapes))
    small = len(rows) * math.prod(shape) * np.dtype(expected.kind.dtype).itemsize <= IN_MEMORY_BYTES
    flip = args.random_flip and role == "training"
    described = (source.name, args.dataset_config_name, split)
    if small and len(shapes) == 1:
        rows, pixels = survey.decode(rows, reader, shape)
        survey.report()
        spec = _spec(*described, shape, expected.kind.value_scale, names, pixels)
        return ArrayDataset(pixels, spec, None if labels is None else labels[rows], flip), expected
    if args.on_bad_image == "skip":
        rows = survey.readable(rows, reader)
    survey.report()
    square = shape if expected.kind.vector else (shape[0], *2 * (min(shape[1:]),))
    spec = _spec(*described, square, expected.kind.value_scale, names, len(rows))
    return LazyDataset(images, rows, reader, spec, None if labels is None else labels[rows], flip), expected


def _streamed(
    args: DataArguments,
    source: Source,
    split: str,
    role: Role,
    images: ImageColumn,
    labels: LabelColumn | None,
    expected: Expected | None,
) -> tuple[StreamedDataset, Expected]:
    if labels is not None and unlabelled(images.split, labels.column):
        labels = None
    if role != "evaluation" and args.exclude_label is not None and labels is None:
        raise UserError(f"--exclude_label {args.exclude_label}: the data have no column {args.label_column!r}")
    class_names = None if labels is None else labels.class_names
    expected = expected or preview(args, images)
    if expected.kind.vector:
        _refuse_image_options(args, source.name)
        shape: tuple[int, ...] = (expected.kind.channels,)
    else:
        side = args.resolution or expected.size
        assert side is not None
        shape = (expected.kind.channels, side, side)
    dataset = StreamedDataset(
        images,
        None if labels is None else labels.column,
        Reader(expected.kind, expected.size, args.resolution, args.center_crop or role != "training"),
        _spec(source.name, args.dataset_config_name, split, shape, expected.kind.value_scale, class_names, None),
        skip_bad=args.on_bad_image == "skip",
        excluded=None if role == "evaluation" else _excluded(args, class_names),
        limit=args.max_train_samples if role == "training" else None,
        random_flip=args.random_flip and role == "training",
    )
    return dataset, expected
