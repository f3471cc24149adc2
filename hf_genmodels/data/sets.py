"""The three kinds of data sets: decoded into memory, decoded when asked for, streamed. All make the same batches.

`collate` makes one batch from a description of it (its work), without any state, so that a worker process may do it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch

from ..errors import UserError
from .decoding import BadImage, Reader, Record
from .features import ImageColumn, Images, no_class
from .spec import DataSpec

logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]

SHUFFLE_BUFFER = 1000
# Uniform numbers of an example: flip, top and left of the crop; partner, and the same three of its own image.
NUM_DRAWS = 7

# What random numbers are for: the last part of a generator's seed.
ORDER, AUGMENTATION, SUBSET, RESERVED = 1, 2, 3, 4

SKIP_HINT = "or pass --on_bad_image skip to leave such images out"


def generator(*seed: int) -> np.random.Generator:
    """A random generator that depends on these numbers only."""
    return np.random.Generator(np.random.PCG64(seed))


def crop(pixels: np.ndarray, size: tuple[int, int], draws: np.ndarray | None) -> np.ndarray:
    """Cuts a rectangle out of every image.

    Args:
        pixels: `(batch, channels, height, width)`.
        size: (height, width) of the rectangle.
        draws: `(3 or more, batch)` in [0, 1); rows 1 and 2 place the crop. None means the centre.
    """
    rows, columns = pixels.shape[2] - size[0], pixels.shape[3] - size[1]
    if draws is None:
        top, left = rows // 2, columns // 2
        return pixels[:, :, top : top + size[0], left : left + size[1]]
    tops = (draws[1] * (rows + 1)).astype(np.int64)[:, None] + np.arange(size[0])
    lefts = (draws[2] * (columns + 1)).astype(np.int64)[:, None] + np.arange(size[1])
    image = np.arange(len(pixels))[:, None, None]
    # Indexing on both sides of a slice puts the sliced axis last.
    return pixels[image, :, tops[:, :, None], lefts[:, None, :]].transpose(0, 3, 1, 2)


def to_tensor(pixels: np.ndarray, spec: DataSpec, flips: np.ndarray | None) -> torch.Tensor:
    """Stored values to what a network sees: float32 in [-1, 1] for images, unchanged for vectors.

    Args:
        pixels: `(batch, *spec.shape)`.
        spec: Gives the unit of the values.
        flips: `(batch,)` bool, images to mirror left to right; None for none.
    """
    values = torch.from_numpy(np.ascontiguousarray(pixels))
    if spec.size is None:
        return values
    image = values.to(torch.float32).div_(spec.value_scale).mul_(2).sub_(1)
    if flips is None:
        return image
    mirrored = image.flip(-1)
    if spec.mirrored_channels is not None:
        mirrored = mirrored[:, list(spec.mirrored_channels)]
    return torch.where(torch.from_numpy(flips)[:, None, None, None], mirrored, image)


class MapDataset:
    """A data set whose examples can be had in any order.

    Args:
        spec: Shape and units.
        labels: `(examples,)` int64, or None.
        random_flip: Whether training batches are mirrored at random.
        extras: Further columns, `(examples, ...)`.
    """

    in_memory: bool

    def __init__(
        self,
        spec: DataSpec,
        labels: np.ndarray | None,
        random_flip: bool,
        extras: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.spec = spec
        self.labels = labels
        self.random_flip = random_flip
        self.extras = extras or {}

    def __len__(self) -> int:
        assert self.spec.num_examples is not None
        return self.spec.num_examples

    @property
    def augmented(self) -> bool:
        """Whether training batches depend on random draws."""
        raise NotImplementedError

    def collate(self, work: tuple[np.ndarray, np.ndarray | None]) -> Batch:
        """Makes a batch.

        Args:
            work: `(indices, draws)`: the examples, and `(NUM_DRAWS, batch)` uniform numbers that decide about flips
                and crops; None for no augmentation.
        """
        indices, draws = work
        pixels = self._pixels(indices, draws)
        flips = draws[0] < 0.5 if draws is not None and self.random_flip else None
        batch = {"image": to_tensor(pixels, self.spec, flips), "index": torch.from_numpy(indices)}
        if self.labels is not None:
            batch["label"] = torch.from_numpy(self.labels[indices])
        for name, column in self.extras.items():
            batch[name] = torch.from_numpy(column[indices])
        return batch

    def _pixels(self, indices: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        raise NotImplementedError


class ArrayDataset(MapDataset):
    """A data set decoded into one array; a batch is one gather.

    Args:
        pixels: `(examples, channels, height, width)` or `(examples, dim)`, in the stored precision.
        spec: Shape and units.
        labels: `(examples,)` int64, or None.
        random_flip: Whether training batches are mirrored at random.
        extras: Further columns, `(examples, ...)`.
    """

    in_memory = True

    def __init__(
        self,
        pixels: np.ndarray,
        spec: DataSpec,
        labels: np.ndarray | None,
        random_flip: bool,
        extras: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__(spec, labels, random_flip, extras)
        self.pixels = pixels

    @property
    def augmented(self) -> bool:
        """Whether training batches depend on random draws."""
        return self.random_flip or self.pixels.shape[1:] != self.spec.shape

    def _pixels(self, indices: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        pixels = self.pixels[indices]
        size = self.spec.size
        return pixels if size is None or pixels.shape[2:] == size else crop(pixels, size, draws)


class LazyDataset(MapDataset):
    """A data set too large for memory, or with images of several shapes: decoded image by image when asked for.

    Args:
        images: The column that holds the images.
        rows: `(examples,)` the row of each example.
        reader: Decodes them.
        spec: Shape and units.
        labels: `(examples,)` int64, or None.
        random_flip: Whether training batches are mirrored at random.
    """

    in_memory = False

    def __init__(
        self,
        images: Images,
        rows: np.ndarray,
        reader: Reader,
        spec: DataSpec,
        labels: np.ndarray | None,
        random_flip: bool,
    ) -> None:
        super().__init__(spec, labels, random_flip)
        self.images = images
        self.rows = rows
        self.reader = reader

    @property
    def augmented(self) -> bool:
        """Whether training batches depend on random draws."""
        return self.random_flip or (self.spec.is_image and not self.reader.center_crop)

    def _pixels(self, indices: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        result = []
        for position, index in enumerate(indices):
            row = self.rows[index : index + 1]
            (record,) = self.images.fetch(row)
            drawn = None if draws is None else draws[:, position : position + 1]
            result.append(read_cropped(self.reader, record, self.images.where(int(row[0]), record), drawn))
        return np.stack(result)


def read_cropped(reader: Reader, record: Record, where: str, draws: np.ndarray | None) -> np.ndarray:
    """Decodes one image to `(channels, height, width)`, or a vector to `(dim,)`.

    Raises:
        UserError: It is bad.
    """
    try:
        pixels = reader.read(record)
    except BadImage as error:
        raise UserError(f"{where} {error}, {SKIP_HINT}") from error
    return cropped(pixels, reader, draws)


def cropped(pixels: np.ndarray, reader: Reader, draws: np.ndarray | None) -> np.ndarray:
    """What `Reader.read` gave, cut to an example of `reader.shape`."""
    if pixels.ndim == 1:
        return pixels
    _, height, width = reader.shape
    return crop(pixels[None], (height, width), draws)[0]


@dataclass(frozen=True)
class StreamExample:
    """One example on its way through the shuffle buffer.

    Attributes:
        index: Its position in the stream.
        record: The undecoded image, or the `(channels, height, width)` array `Reader.read` made of it.
        decoded: Which of the two it is.
        label: Its class, if known.
    """

    index: int
    record: Record
    decoded: bool
    label: int | None


class StreamedDataset:
    """A data set read from its beginning every time.

    Args:
        images: The column that holds the images.
        label_column: The column that holds the labels, or None.
        reader: Decodes images.
        spec: Shape and units.
        skip_bad: Leave bad images out instead of stopping. Every image is then decoded where the stream is read, since
            all processes have to agree on which ones are left.
        excluded: A label whose examples are passed over, or None.
        limit: Stop after this many examples; None for all.
        random_flip: Whether training batches are mirrored at random.
    """

    in_memory = False

    def __init__(
        self,
        images: ImageColumn,
        label_column: str | None,
        reader: Reader,
        spec: DataSpec,
        *,
        skip_bad: bool,
        excluded: int | None,
        limit: int | None,
        random_flip: bool,
    ) -> None:
        assert isinstance(images.split, datasets.IterableDataset)
        self.images = images
        self.stream = images.split
        self.label_column = label_column
        self.reader = reader
        self.spec = spec
        self.skip_bad = skip_bad
        self.excluded = excluded
        self.limit = limit
        self.random_flip = random_flip

    @property
    def augmented(self) -> bool:
        """Whether training batches depend on random draws."""
        return self.random_flip or (self.spec.is_image and not self.reader.center_crop)

    def examples(self) -> Iterator[StreamExample]:
        """The usable examples in the order of the stream."""
        return itertools.islice(self._usable(), self.limit)

    def shuffled(self, seed: int, epoch: int) -> Iterator[StreamExample]:
        """The usable examples, shuffled within a buffer of 1000 by a function of (seed, epoch)."""
        random = generator(seed, epoch, ORDER)
        examples = self.examples()
        buffer = list(itertools.islice(examples, SHUFFLE_BUFFER))
        for example in examples:
            slot = int(random.integers(len(buffer)))
            yield buffer[slot]
            buffer[slot] = example
        for slot in random.permutation(len(buffer)):
            yield buffer[slot]

    def _usable(self) -> Iterator[StreamExample]:
        skipped = 0
        num_classes = len(self.spec.class_names or ())
        for index, row in enumerate(self.stream):
            label, place = None, self.images.place
            if self.label_column is not None:
                label = row[self.label_column]
                if label is None:
                    raise UserError(f"row {index} of {place} has no label in column {self.label_column!r}")
                if num_classes and not 0 <= label < num_classes:
                    raise UserError(no_class(index, place, label, self.label_column, num_classes))
            if self.excluded is not None and label == self.excluded:
                continue
            record = self.images.record(row[self.images.column])
            if self.skip_bad:
                try:
                    record = self.reader.read(record)
                except BadImage as error:
                    if skipped == 0:
                        logger.warning("skipping bad images: %s %s", self.images.where(index, record), error)
                    skipped += 1
                    continue
            yield StreamExample(index, record, self.skip_bad, label)
        if skipped:
            logger.warning("skipped %d bad images of %s", skipped, self.images.place)

    def collate(self, work: tuple[Sequence[StreamExample], np.ndarray | None]) -> Batch:
        """Makes a batch.

        Args:
            work: `(examples, draws)`: the examples, and `(NUM_DRAWS, batch)` uniform numbers that decide about flips
                and crops; None for no augmentation.
        """
        examples, draws = work
        pixels = np.stack(
            [self._cropped(example, None if draws is None else draws[:, [i]]) for i, example in enumerate(examples)]
        )
        flips = draws[0] < 0.5 if draws is not None and self.random_flip else None
        index = torch.tensor([example.index for example in examples])
        batch: dict[str, Any] = {"image": to_tensor(pixels, self.spec, flips), "index": index}
        if self.label_column is not None:
            batch["label"] = torch.tensor([example.label for example in examples])
        return batch

    def _cropped(self, example: StreamExample, draws: np.ndarray | None) -> np.ndarray:
        if not example.decoded:
            where = self.images.where(example.index, example.record)
            return read_cropped(self.reader, example.record, where, draws)
        assert isinstance(example.record, np.ndarray)
        return cropped(example.record, self.reader, draws)


ImageDataset = ArrayDataset | LazyDataset | StreamedDataset
