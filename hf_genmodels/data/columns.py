"""One column of images of an opened data set, or several stacked, -> a data set of single images."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import datasets
import numpy as np

from ..errors import UserError
from ..sizes import height_width
from . import builtin
from .arguments import STACKED_INPUTS, DataArguments
from .conversion import Conversion, warn_of_dark
from .features import (
    HalvedColumn,
    ImageColumn,
    Images,
    LabelColumn,
    StackedColumns,
    file_names,
    find_labels,
    reading,
    unlabelled,
)
from .first_image import completed
from .folders import Domain
from .glances import digest
from .label_maps import count_pixels, described, nearest, read_names
from .reader import Reader
from .resizing import middle, resize, resized_shape
from .sets import HELD_OUT, SUBSET, ArrayDataset, LazyDataset, generator
from .sharing import Share
from .sources import Source, open_source
from .spec import DataSpec, LabelMaps, Part, fingerprint
from .streams import ImageDataset, StreamedDataset
from .survey import Expected, Headers, Survey, preview

# Sets whose decoded size is at most this are held in memory.
IN_MEMORY_BYTES = 2 * 1024**3
# "training" is augmented and cut to max_train_samples; neither it nor "validation" holds the excluded label.
Role = Literal["training", "validation", "evaluation"]


@dataclass(frozen=True)
class Choice:
    """Columns by name, and the option that named them; several are the channels of one image.

    `otherwise` ends the complaint that there is no such column: what else a user may do. `half` is the part of each
    image that is meant; `label_maps` says of label maps what their values stand for.
    """

    columns: tuple[str, ...]
    option: str
    otherwise: str = ""
    half: Literal["left", "right"] | None = None
    label_maps: LabelMaps | None = None

    def conversion(self, args: DataArguments) -> Conversion:
        """What is done to modes and values: of label maps nothing."""
        return args.conversion if self.label_maps is None else Conversion(label_maps=self.label_maps)


@dataclass(frozen=True)
class Loaded:
    """One side of the examples.

    Attributes:
        dataset: The images.
        rows: Their rows in the split, ascending; empty for a stream.
        expected: What every image of another split must be.
        headers: Kind and size of the image in each row, as stored; None for a stream and for built-in sets.
        images: Where they are read from; None for built-in sets.
    """

    dataset: ImageDataset
    rows: np.ndarray
    expected: Expected | None = None
    headers: Headers | None = None
    images: Images | None = None


class Origin(Protocol):
    """An opened data set."""

    name: str
    splits: Collection[str]

    def file_names(self, choice: Choice, split: str) -> Sequence[str | None]:
        """The name of the file in each row, below the split's folder and without ending; None where there is none."""

    def label_names(self, choice: Choice) -> tuple[str, ...] | None:
        """The names of the classes of label maps, where the data say them."""

    def rows(self, split: str, role: Role, seed: int) -> np.ndarray:
        """The rows to use, ascending; empty for a stream, which is used as it comes."""

    def load(self, choice: Choice, split: str, role: Role, rows: np.ndarray, expected: Expected | None) -> Loaded:
        """The images of one column in these rows."""


def open_origin(args: DataArguments, share: Share, suffix: str = "", domain: Domain | None = None) -> Origin:
    """Opens the data set that the arguments name; `suffix` and `domain` as for `open_source`."""
    return BuiltinOrigin(args) if is_builtin(args.dataset_name) else SourceOrigin(args, share, suffix, domain)


def is_builtin(dataset_name: str | None) -> bool:
    """Whether a set comes with the library."""
    return dataset_name is not None and dataset_name.startswith(builtin.PREFIX)


def _choose(
    args: DataArguments, role: Role, seed: int, count: int, labels: np.ndarray | None, names: tuple[str, ...] | None
) -> np.ndarray:
    rows = np.arange(count)
    if role != "evaluation" and args.exclude_label is not None:
        if labels is None:
            raise UserError(f"--exclude_label {args.exclude_label}: the data have no column {args.label_column!r}")
        rows = rows[labels != excluded_label(args, names)]
    if args.validation_size is not None and role != "evaluation":
        held_out = _held_out(rows, args.validation_size)
        rows = held_out if role == "validation" else np.setdiff1d(rows, held_out)
    if role == "training" and args.max_train_samples is not None:
        rows = np.sort(generator(seed, 0, SUBSET).permutation(rows)[: args.max_train_samples])
    return rows


def _held_out(rows: np.ndarray, size: float) -> np.ndarray:
    """The rows of a training split that are its validation images, ascending; they depend on nothing but the rows.

    Raises:
        UserError: They would be none, or all.
    """
    count = round(size * len(rows)) if size < 1 else int(size)
    if not 0 < count < len(rows):
        purpose = "learn from" if count else "hold out"
        raise UserError(f"--validation_size {size:g} of {len(rows)} training images leaves none to {purpose}")
    return np.sort(generator(0, 0, HELD_OUT).permutation(rows)[:count])


def excluded_label(args: DataArguments, class_names: tuple[str, ...] | None) -> int | None:
    """The label that `exclude_label` stands for; None without one.

    Raises:
        UserError: The data have no such class.
    """
    if args.exclude_label is None:
        return None
    if class_names is not None and args.exclude_label in class_names:
        return class_names.index(args.exclude_label)
    if args.exclude_label.isdecimal() and (class_names is None or int(args.exclude_label) < len(class_names)):
        return int(args.exclude_label)
    known = "an index" if class_names is None else f"one of {', '.join(class_names)} or an index"
    raise UserError(f"--exclude_label {args.exclude_label} is no class of the data: give {known}")


def _refuse_image_options(args: DataArguments, name: str) -> None:
    for option in ("resolution", "crop_size", "convert", "value_range", "random_flip"):
        if getattr(args, option):
            raise UserError(f"{name} holds vectors, not images: leave out --{option}")


def _spec(
    name: str,
    config: str | None,
    split: str,
    shape: tuple[int, ...],
    value_scale: float,
    class_names: tuple[str, ...] | None,
    content: np.ndarray | int | None,
    stored_shape: tuple[int, ...] | None = None,
) -> DataSpec:
    """A spec from the content in memory, the number of examples, or None for a stream.

    `stored_shape` is that of an image in memory, where it is cropped to `shape` only in a batch.
    """
    count = len(content) if isinstance(content, np.ndarray) else content
    crc = zlib.crc32(np.ascontiguousarray(content).data) if isinstance(content, np.ndarray) else None
    return DataSpec(
        name=name,
        channels=shape[0],
        size=(shape[1], shape[2]) if len(shape) == 3 else None,
        value_scale=value_scale,
        class_names=class_names,
        num_examples=count,
        fingerprint=fingerprint(name, config, split, stored_shape or shape, count, crc),
    )


def _reader(args: DataArguments, expected: Expected, role: Role, conversion: Conversion) -> Reader:
    return Reader(
        expected.kind,
        expected.size,
        None if args.resolution is None else height_width(args.resolution),
        args.center_crop or role != "training",
        None if args.crop_size is None else height_width(args.crop_size),
        conversion,
        args.center_crop_fraction,
        args.resize_mode or "cover",
    )


class BuiltinOrigin:
    """A set that comes with the library."""

    splits: Collection[str] = builtin.SPLITS

    def __init__(self, args: DataArguments) -> None:
        assert args.dataset_name is not None
        self.args = args
        self.name = args.dataset_name
        self._contents: dict[str, builtin.BuiltinSplit] = {}
        if args.streaming:
            raise UserError(f"{self.name} is generated in memory: leave out --streaming")
        if args.label_column != "label":
            raise UserError(f"{self.name} has no column {args.label_column!r}: leave out --label_column")
        for option in ("image_columns", "side_by_side"):
            if getattr(args, option):
                raise UserError(f"{self.name} holds whole images: leave out --{option}")
        for option in ("convert", "value_range"):
            if getattr(args, option) is not None:
                raise UserError(f"{self.name} has modes and values of its own: leave out --{option}")

    def _content(self, split: str) -> builtin.BuiltinSplit:
        if split not in self._contents:
            self._contents[split] = builtin.load_builtin(self.name, self.args.dataset_config_name, split)
        return self._contents[split]

    def file_names(self, choice: Choice, split: str) -> Sequence[str | None]:
        raise UserError("built-in sets hold pairs in one set: leave out --dataset_name_b")

    def label_names(self, choice: Choice) -> tuple[str, ...] | None:
        return self._content(self.args.train_split).label_names.get(choice.columns[0])

    def rows(self, split: str, role: Role, seed: int) -> np.ndarray:
        content = self._content(split)
        rows = _choose(self.args, role, seed, len(content.pixels), content.labels, content.class_names)
        if len(rows) == 0:
            raise UserError(f"no example is left in split {split!r} of {self.name}")
        return rows

    def load(self, choice: Choice, split: str, role: Role, rows: np.ndarray, expected: Expected | None) -> Loaded:
        args, content, maps = self.args, self._content(split), choice.label_maps
        for column in choice.columns:
            self._check_column(content, column, choice)
        columns = {"image": content.pixels, **content.columns}
        chosen = [columns[column] for column in choice.columns]
        pixels = np.concatenate([each[rows] for each in chosen], axis=1) if len(chosen) > 1 else chosen[0][rows]
        if pixels.ndim == 2:
            _refuse_image_options(args, self.name)
        elif args.resolution is not None:
            pixels = _resized(pixels, args, content.value_scale, maps is not None)
        scale = content.value_scale if maps is None else 1.0
        config, stored = args.dataset_config_name, pixels.shape[1:]
        shape = stored if args.size is None else (stored[0], *args.size)
        if any(side < wanted for side, wanted in zip(stored[1:], shape[1:], strict=True)):
            raise UserError(
                f"{self.name} has images of {stored[1]}x{stored[2]} (height x width), too small to cut "
                f"{shape[1]}x{shape[2]} out of them: give a smaller --crop_size, or --resolution to enlarge them"
            )
        spec = _spec(self.name, config, split, shape, scale, content.class_names, pixels, stored)
        spec = dataclasses.replace(spec, mirrored_channels=_mirrored(content, choice.columns))
        if choice.option == STACKED_INPUTS:
            parts = (Part(c, each.shape[1], scale) for c, each in zip(choice.columns, chosen, strict=True))
            spec = dataclasses.replace(spec, parts=tuple(parts))
        if maps is not None:
            spec = dataclasses.replace(spec, label_maps=described(maps, count_pixels(pixels, maps.num_classes)))
        labels = None if content.labels is None else content.labels[rows]
        extras = {name: values[rows] for name, values in content.extras.items()}
        return Loaded(ArrayDataset(pixels, spec, labels, args.random_flip and role == "training", extras), rows)

    def _check_column(self, content: builtin.BuiltinSplit, column: str, choice: Choice) -> None:
        """Refuse a column that is not there, label maps as images, and images as label maps."""
        columns = ["image", *content.columns]
        if column not in columns:
            raise UserError(
                f"{self.name} has no column {column!r}: choose --{choice.option} from "
                f"{', '.join(columns)}{choice.otherwise}"
            )
        if (column in content.label_names) == (choice.label_maps is None):
            holds = (
                "images, no label maps" if choice.label_maps else "label maps: they are targets, --target_kind labels"
            )
            raise UserError(f"column {column!r} of {self.name} holds {holds}; choose another --{choice.option}")
        if choice.label_maps is not None and choice.label_maps.num_classes < len(content.label_names[column]):
            known = " ".join(content.label_names[column])
            raise UserError(f"--label_names: column {column!r} of {self.name} has the classes {known}; name them all")


def _resized(pixels: np.ndarray, args: DataArguments, value_scale: float, are_labels: bool) -> np.ndarray:
    """Images `(examples, channels, height, width)` at the size that is asked for."""
    assert args.resolution is not None
    resolution, mode = height_width(args.resolution), args.resize_mode or "cover"
    images = [np.moveaxis(image, 0, 2) for image in pixels]
    if args.center_crop_fraction is not None:
        images = [middle(each, args.center_crop_fraction) for each in images]
    if are_labels:
        height, width = images[0].shape[:2]
        shape = resized_shape(height, width, resolution, mode)
        resized = [nearest(each, shape) for each in images]
    else:
        resized = [resize(each, resolution, value_scale, mode) for each in images]
    return np.moveaxis(np.stack(resized), 3, 1)


def _mirrored(content: builtin.BuiltinSplit, columns: Sequence[str]) -> tuple[int, ...] | None:
    """`DataSpec.mirrored_channels` of columns whose images are the channels of one."""
    order: list[int] = []
    for column in columns:
        pixels = content.pixels if column == "image" else content.columns[column]
        own = content.mirrored_channels.get(column, tuple(range(pixels.shape[1])))
        order += [len(order) + channel for channel in own]
    return None if order == sorted(order) else tuple(order)


class SourceOrigin:
    """A set on the Hub, or in local files."""

    def __init__(self, args: DataArguments, share: Share, suffix: str, domain: Domain | None) -> None:
        self.args = args
        self.share = share
        self.source: Source = open_source(args, suffix, domain)
        self.name = self.source.name
        self.splits: Collection[str] = self.source.splits

    def _labels(self, split: str) -> tuple[LabelColumn | None, np.ndarray | None]:
        column = find_labels(self.source, self.args)
        data = self.source.splits[split]
        if column is None or isinstance(data, datasets.IterableDataset):
            return column, None
        return column, column.labels(data, self._place(split))

    def _place(self, split: str) -> str:
        return f"split {split!r} of {self.source.name}"

    def _images(self, choice: Choice, split: str) -> Images:
        data, place = self.source.splits[split], self._place(split)
        if choice.option in ("image_columns", STACKED_INPUTS):
            return StackedColumns(data, choice.columns, place, choice.option, mixed=choice.option == STACKED_INPUTS)
        column = ImageColumn(data, choice.columns[0], place, choice.option, choice.otherwise)
        return column if choice.half is None else HalvedColumn(column, right=choice.half == "right")

    def file_names(self, choice: Choice, split: str) -> Sequence[str | None]:
        return file_names(self._images(choice, split), self.source.roots.get(split))

    def label_names(self, choice: Choice) -> tuple[str, ...] | None:
        folder = self.args.train_data_dir or self.args.dataset_name
        return None if folder is None else read_names(Path(folder))

    def rows(self, split: str, role: Role, seed: int) -> np.ndarray:
        data = self.source.splits[split]
        if isinstance(data, datasets.IterableDataset):
            return np.arange(0)
        column, labels = self._labels(split)
        rows = _choose(self.args, role, seed, len(data), labels, None if column is None else column.class_names)
        if len(rows) == 0:
            raise UserError(f"no example is left in {self._place(split)}")
        return rows

    def load(self, choice: Choice, split: str, role: Role, rows: np.ndarray, expected: Expected | None) -> Loaded:
        args, data, images = self.args, self.source.splits[split], self._images(choice, split)
        column, labels = self._labels(split)
        if isinstance(images, ImageColumn) and isinstance(data, datasets.IterableDataset):
            return self._streamed(images, split, role, column, expected)
        names = None if column is None else column.class_names
        conversion, maps = choice.conversion(args), choice.label_maps
        survey = Survey(args, images, self.share, conversion)
        headers, listed = survey.headers(rows), rows
        expected = expected or survey.expected(headers)
        if expected.kind.vector:
            _refuse_image_options(args, self.source.name)
        reader = _reader(args, expected, role, conversion)
        rows = survey.matching(headers, reader)
        shapes = {reader.target_shape(header) for header in headers.of(rows).distinct()[0]}
        shape = next(iter(shapes))
        small = len(rows) * math.prod(shape) * np.dtype(expected.kind.dtype).itemsize <= IN_MEMORY_BYTES
        flip = args.random_flip and role == "training"
        described = (self.source.name, args.dataset_config_name, split)
        if small and len(shapes) == 1:
            rows, pixels = survey.decode(rows, reader, shape)
            survey.report()
            spec = _spec(*described, reader.shape, expected.kind.value_scale, names, pixels, shape)
            counts = None if maps is None else count_pixels(pixels, maps.num_classes)
            spec = completed(spec, choice.columns, images.fetch(rows[:1])[0], conversion, counts)
            if role == "training":
                warn_of_dark(pixels, expected.kind, self._place(split))
            dataset: ImageDataset = ArrayDataset(pixels, spec, None if labels is None else labels[rows], flip)
            return Loaded(dataset, rows, expected, headers, images)
        glances, counts = survey.glances(listed), None
        if maps is not None:
            rows, counts = survey.counted(rows, reader, maps.num_classes)
        elif args.on_bad_image == "skip":
            rows = survey.readable(rows, reader)
        else:
            survey.whole(rows, reader, glances["whole"][np.searchsorted(listed, rows)])
        survey.report()
        if role == "training":
            warn_of_dark(survey.some(rows, reader), expected.kind, self._place(split))
        spec = _spec(*described, reader.shape, expected.kind.value_scale, names, len(rows))
        # Of all images, bad ones as well: a run that stopped at one may go on without it.
        known_by = fingerprint(*described, spec.shape, len(listed))
        spec = dataclasses.replace(spec, fingerprint=known_by, files=digest(glances))
        spec = completed(spec, choice.columns, images.fetch(rows[:1])[0], conversion, counts)
        dataset = LazyDataset(images, rows, reader, spec, None if labels is None else labels[rows], flip)
        return Loaded(dataset, rows, expected, headers, images)

    def _streamed(
        self, images: ImageColumn, split: str, role: Role, labels: LabelColumn | None, expected: Expected | None
    ) -> Loaded:
        args = self.args
        with reading(images.place):
            if labels is not None and unlabelled(images.split, labels.column):
                labels = None
        if role != "evaluation" and args.exclude_label is not None and labels is None:
            raise UserError(f"--exclude_label {args.exclude_label}: the data have no column {args.label_column!r}")
        class_names = None if labels is None else labels.class_names
        expected = expected or preview(args, images)
        kind = expected.kind
        if kind.vector:
            _refuse_image_options(args, self.source.name)
        reader = _reader(args, expected, role, args.conversion)
        dataset = StreamedDataset(
            images,
            None if labels is None else labels.column,
            reader,
            _spec(
                self.source.name, args.dataset_config_name, split, reader.shape, kind.value_scale, class_names, None
            ),
            skip_bad=args.on_bad_image == "skip",
            excluded=None if role == "evaluation" else excluded_label(args, class_names),
            limit=args.max_train_samples if role == "training" else None,
            random_flip=args.random_flip and role == "training",
            shuffle_buffer=args.shuffle_buffer_size,
        )
        return Loaded(dataset, np.arange(0), expected)
