"""`DataArguments` -> data sets: chooses the splits and columns, and puts the images of an example together."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .arguments import STACKED_INPUTS, DataArguments
from .columns import Choice, Loaded, Origin, Role, is_builtin, open_origin
from .label_maps import check_names
from .layouts import RESERVED_EVERY, TwoImageDataset
from .sets import RESERVED, generator
from .sharing import ALONE, Share
from .sources import has_domain_folders, has_two_sources
from .spec import DataSpec, Layout
from .streams import ImageDataset, StreamedDataset
from .survey import Expected

logger = logging.getLogger(__name__)

Dataset = ImageDataset | TwoImageDataset
TWO_SIDED = ("pair", "domains")
# What the images of validation examples must be: as the training ones.
Expectations = tuple[Expected | None, Expected | None]
NOTHING_KNOWN: Expectations = (None, None)
ONE_IMAGE = Layout()


@dataclass(frozen=True)
class LoadedData:
    """What a training script learns from.

    Attributes:
        spec: The training data's shape, units and identity.
        train: The training data.
        validation: What the validation loss is measured on; None when the data have no such split.
        validation_split: Its name.
        arguments: What `load_data` was called with.
    """

    spec: DataSpec
    train: Dataset
    validation: Dataset | None
    validation_split: str | None
    arguments: DataArguments = dataclasses.field(default_factory=DataArguments)


def load_data(args: DataArguments, seed: int, layout: Layout = ONE_IMAGE, share: Share = ALONE) -> LoadedData:
    """Loads the training data and, where there are some, the validation data.

    `exclude_label` is left out of both. Validation images must be of the training images' kind.

    Args:
        args: The user's options.
        seed: Draws the examples that `max_train_samples` keeps.
        layout: What an example consists of.
        share: Of the processes of a machine that load the same data, all at a time, which one this is: they look at
            its files together.

    Raises:
        UserError: The data cannot be found, read or used; the message names the file or row.
    """
    loader: _Loader = share.first(lambda: _Loader(args, layout, share))
    name = _validation_split(args, loader.splits)
    loader.check_split(args.train_split, "choose --train_split from")
    if name is not None:
        loader.check_split(name, "choose --validation_split from")
    train, expected = loader.load(args.train_split, "training", seed, NOTHING_KNOWN)
    validation = None if name is None else loader.load(name, "validation", seed, expected)[0]
    return LoadedData(train.spec, train, validation, name, args)


def load_split(args: DataArguments, split: str, layout: Layout = ONE_IMAGE) -> Dataset:
    """Loads one split for evaluation: every class, every example, no augmentation, crops at the centre.

    Raises:
        UserError: As `load_data`.
    """
    return load_chosen_split(args, split, layout)[1]


def load_chosen_split(args: DataArguments, split: str | None, layout: Layout = ONE_IMAGE) -> tuple[str, Dataset]:
    """`load_split` and the split's name; None stands for `test`, or for `train` where there is no other.

    Raises:
        UserError: As `load_data`.
    """
    loader = _Loader(args, layout)
    name = split or ("train" if loader.splits == ["train"] else "test")
    loader.check_split(name, "choose --split from")
    return name, loader.load(name, "evaluation", 0, NOTHING_KNOWN)[0]


def _validation_split(args: DataArguments, splits: Collection[str]) -> str | None:
    if args.validation_size is not None:
        return args.train_split
    if args.validation_split is not None:
        return args.validation_split
    return next((name for name in ("validation", "test") if name in splits and name != args.train_split), None)


def _check(args: DataArguments, layout: Layout) -> None:
    if (args.dataset_name is None) == (args.train_data_dir is None):
        raise UserError("give exactly one of --dataset_name and --train_data_dir")
    if args.dataset_name_b is not None and args.train_data_dir_b is not None:
        raise UserError("give at most one of --dataset_name_b and --train_data_dir_b")
    args.check_images()
    if args.max_train_samples is not None and args.max_train_samples < 1:
        raise UserError(f"--max_train_samples {args.max_train_samples} is not a positive number")
    _check_held_out(args)
    if args.shuffle_buffer_size < 1:
        raise UserError(f"--shuffle_buffer_size {args.shuffle_buffer_size} is not a positive number: give 1 for none")
    if args.dataloader_num_workers is not None and args.dataloader_num_workers < 0:
        raise UserError(f"--dataloader_num_workers {args.dataloader_num_workers} is below 0: give 0 or more processes")
    if args.shuffle_buffer_size != DataArguments().shuffle_buffer_size and not args.streaming:
        raise UserError("--shuffle_buffer_size has no meaning without --streaming; leave it out")
    for option in _unused(args, layout):
        if getattr(args, option) != getattr(DataArguments(), option):
            raise UserError(f"--{option} has no meaning {_where_unused(args, layout, option)}; leave it out")
    if args.conditioning_image_column == args.target_image_column and _from_columns(args, layout):
        logger.warning(
            "--conditioning_image_column and --target_image_column are both %s: every image is its own target",
            args.target_image_column,
        )
    if args.conditioning_image_columns is not None and len(set(args.conditioning_image_columns)) < 2:
        raise UserError("--conditioning_image_columns names fewer than two columns: give --conditioning_image_column")
    if layout.label_maps is not None:
        for option in ("side_by_side", "image_columns"):
            if getattr(args, option):
                raise UserError(
                    f"--{option} and --target_kind labels exclude each other: label maps are a column alone"
                )
    if args.streaming and layout.kind != "image":
        raise UserError("examples of two images cannot be streamed: leave out --streaming")


def _check_held_out(args: DataArguments) -> None:
    size = args.validation_size
    if size is None:
        return
    if size <= 0 or (size > 1 and not float(size).is_integer()):
        raise UserError(f"--validation_size {size:g} is neither a number of images nor a share of them below 1")
    if args.validation_split not in (None, args.train_split):
        raise UserError(
            f"--validation_size holds training images out, --validation_split {args.validation_split} names others: "
            "leave one of the two out"
        )
    if args.streaming:
        raise UserError("--validation_size cannot hold images of a stream out: leave out --streaming")


def _unused(args: DataArguments, layout: Layout) -> tuple[str, ...]:
    """Options that say nothing about these examples."""
    columns = ("conditioning_image_column", "target_image_column", STACKED_INPUTS)
    second = ("dataset_name_b", "train_data_dir_b")
    if layout.kind not in TWO_SIDED:
        return (*second, *columns, "side_by_side", "direction")
    if args.side_by_side:
        return (*second, *columns, "image_columns")
    ordered = () if has_domain_folders(args) else ("direction",)
    return (*columns, *ordered) if has_two_sources(args) else ("image_column", *ordered)


def _where_unused(args: DataArguments, layout: Layout, option: str) -> str:
    if layout.kind not in TWO_SIDED:
        return "here"
    if args.side_by_side:
        return "with --side_by_side"
    if option == "direction":
        return "without --side_by_side or a folder with trainA and trainB"
    if has_domain_folders(args):
        return "of a folder with trainA and trainB"
    return "with --dataset_name_b or --train_data_dir_b" if has_two_sources(args) else "here"


def _from_columns(args: DataArguments, layout: Layout) -> bool:
    """Whether the two images of an example are columns of one data set."""
    return layout.kind in TWO_SIDED and not args.side_by_side and not has_two_sources(args)


class _Loader:
    """Knows where the images of an example come from."""

    def __init__(self, args: DataArguments, layout: Layout, share: Share = ALONE) -> None:
        _check(args, layout)
        self.args = args
        self.layout = layout
        image = Choice((args.image_column,), "image_column")
        stacked = None if args.image_columns is None else Choice(tuple(args.image_columns), "image_columns")
        two_sided, two_sources = layout.kind in TWO_SIDED, layout.kind in TWO_SIDED and has_two_sources(args)
        domains = two_sided and has_domain_folders(args)
        first = dataclasses.replace(args, image_columns=None) if two_sources else args
        self.first: Origin = open_origin(first, share, domain="A" if domains else None)
        self.second, self.choices = self.first, (stacked or image, stacked or image)
        if two_sources:
            self.second = open_origin(args, share, domain="B") if domains else open_origin(_second(args), share, "_b")
            self.choices = (image, stacked or image)
        elif two_sided and args.side_by_side:
            self.choices = (dataclasses.replace(image, half="left"), dataclasses.replace(image, half="right"))
        elif two_sided:
            condition = Choice((args.conditioning_image_column,), "conditioning_image_column", self._otherwise())
            if args.conditioning_image_columns is not None:
                condition = Choice(tuple(args.conditioning_image_columns), STACKED_INPUTS)
            target = Choice((args.target_image_column,), "target_image_column", self._otherwise())
            self.choices = (condition, stacked or target)
        if two_sided and args.direction == "b_to_a":
            self.first, self.second, self.choices = self.second, self.first, self.choices[::-1]
        if layout.label_maps is not None:
            maps = layout.label_maps
            if maps.names is None:
                names = self.second.label_names(self.choices[1]) or maps.otherwise
                maps = dataclasses.replace(maps, names=names, otherwise=None)
            check_names(maps, self.second.name)
            self.choices = (self.choices[0], dataclasses.replace(self.choices[1], label_maps=maps))
        self.splits = [split for split in self.first.splits if split in self.second.splits]

    def _otherwise(self) -> str:
        """What a user may do whose set has one column of images."""
        if self.layout.kind == "pair" and is_builtin(self.first.name):
            return ""
        second = "give the second set with --train_data_dir_b or --dataset_name_b"
        if is_builtin(self.first.name):
            return f", or {second}"
        return f", pass --side_by_side if each image shows A and B beside each other, or {second}"

    def check_split(self, split: str, advice: str) -> None:
        """Raises a UserError where a data set has no such split; `advice` comes before those there are."""
        if not self.splits and self.second is not self.first:
            first, second = (f"{origin.name} has {', '.join(origin.splits)}" for origin in (self.first, self.second))
            raise UserError(f"the two data sets have no split of the same name: {first}, {second}; rename one")
        for origin in (self.first, self.second):
            if split not in origin.splits:
                raise UserError(f"{origin.name} has no split {split!r}: {advice} {', '.join(self.splits)}")

    def load(self, split: str, role: Role, seed: int, expected: Expectations) -> tuple[Dataset, Expectations]:
        """One split, and what the images of the others must be."""
        rows = self.first.rows(split, role, seed)
        others = rows
        if self.layout.kind == "domains":
            others = self.second.rows(split, role, seed)
        elif self.second is not self.first:
            self._check_names(split)
        if self.layout.kind == "reserved":
            rows, others = _reserve(rows, split)
        first = self.first.load(self.choices[0], split, role, rows, expected[0])
        if self.layout.kind == "image":
            return first.dataset, (first.expected, None)
        second = self.second.load(self.choices[1], split, role, others, expected[1])
        if self.layout.kind == "pair":
            if not np.array_equal(first.rows, second.rows):
                both = np.intersect1d(first.rows, second.rows)
                if len(both) == 0:
                    raise UserError(f"no pair is left in split {split!r}: of each, one image is bad")
                first = _among(first, self.first.load(self.choices[0], split, role, both, first.expected))
                second = _among(second, self.second.load(self.choices[1], split, role, both, second.expected))
            _check_sizes(first, second, self.args)
        a, b = first.dataset, second.dataset
        assert not isinstance(a, StreamedDataset) and not isinstance(b, StreamedDataset)  # `_check`
        if self.layout.mirrored_channels is not None:
            b.spec = dataclasses.replace(b.spec, mirrored_channels=self.layout.mirrored_channels)
        return TwoImageDataset(a, b, self.layout), (first.expected, second.expected)

    def _check_names(self, split: str) -> None:
        """Two folders hold pairs only if their files have the same names; the same rows are then the same pairs."""
        first, second = self.first, self.second
        a, b = first.file_names(self.choices[0], split), second.file_names(self.choices[1], split)
        if len(a) != len(b):
            raise UserError(
                f"split {split!r} of {first.name} has {len(a)} images and of {second.name} {len(b)}: pairs need as "
                "many of both; use a family for unpaired images, such as cyclegan"
            )
        for origin, names in ((first, a), (second, b)):
            if None in names:
                raise UserError(
                    f"the images of {origin.name} have no file names, and pairs of two data sets are found by these; "
                    "make both images columns of one data set"
                )
        for one, other in zip(a, b, strict=True):
            if one != other:
                raise UserError(
                    f"the images of {first.name} and {second.name} are no pairs: {one} stands beside {other}; give "
                    "files that belong together the same name, or use a family for unpaired images"
                )


def _among(all_rows: Loaded, some_rows: Loaded) -> Loaded:
    """Some rows of a side, known by all of them where these are not decoded."""
    if not some_rows.dataset.in_memory:
        known = all_rows.dataset.spec
        spec = dataclasses.replace(some_rows.dataset.spec, fingerprint=known.fingerprint, files=known.files)
        some_rows.dataset.spec = spec
    return some_rows


def _second(args: DataArguments) -> DataArguments:
    """The options of the second data set."""
    return dataclasses.replace(
        args,
        dataset_name=args.dataset_name_b,
        train_data_dir=args.train_data_dir_b,
        dataset_config_name=args.dataset_config_name if is_builtin(args.dataset_name_b) else None,
        revision=None,
    )


def _reserve(rows: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Four fifths of the rows, and the others. Which ones depends on nothing but their number."""
    if len(rows) < RESERVED_EVERY:
        raise UserError(
            f"split {split!r} has {len(rows)} examples, of which one in {RESERVED_EVERY} is held in reserve"
        )
    order = generator(0, 0, RESERVED).permutation(rows)
    count = len(rows) // RESERVED_EVERY
    return np.sort(order[count:]), np.sort(order[:count])


def _where(side: Loaded, row: int) -> str:
    assert side.images is not None
    (record,) = side.images.fetch(np.array([row]))
    return side.images.where(row, record)


def _check_sizes(first: Loaded, second: Loaded, args: DataArguments) -> None:
    """The two images of a pair must show the same part of the scene, at the same size."""
    if first.headers is not None and second.headers is not None:
        high, wide = first.headers.sizes(first.rows)
        other_high, other_wide = second.headers.sizes(first.rows)
        at_full_size = args.crop_size is not None and args.resolution is None
        is_free = args.resize_mode == "stretch" and args.crop_size is None
        wrong = (not is_free) & (high * other_wide != wide * other_high) | (at_full_size & (high != other_high))
        for index in np.flatnonzero(wrong)[:1]:
            sizes = (
                f"{_where(first, int(first.rows[index]))} is {high[index]}x{wide[index]} (height x width), its target "
                f"{other_high[index]}x{other_wide[index]}"
            )
            if high[index] * other_wide[index] != wide[index] * other_high[index]:
                raise UserError(f"{sizes}: the two images of a pair must have the same proportions")
            raise UserError(
                f"{sizes}: crops of both would not show the same; pass --resolution to bring both to one size"
            )
    if first.dataset.spec.size != second.dataset.spec.size:
        raise UserError(
            f"the images of {first.dataset.spec.name} have shape {first.dataset.spec.shape}, their targets "
            f"{second.dataset.spec.shape}: pass --resolution to bring both to one size"
        )
