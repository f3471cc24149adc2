"""Data sets whose examples can be had in any order: decoded into memory, or when asked for; `streams` has the others.

`gather` makes one batch from a description of it (its work), without any state, so that a worker process may do it.
Its images stay as they are stored, a quarter as large, until they are where the networks are (`placing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..errors import UserError
from ..keyed import noise_seed, permuted, uniform_double
from .decoding import BadImage, Record
from .features import Images
from .placing import Batch, finished
from .reader import Reader
from .spec import DataSpec

# Uniform numbers of an example: flip, top and left of the crop; partner, and the same three of its own image.
NUM_DRAWS = 7

# What random numbers are for: the last part of a generator's seed.
ORDER, AUGMENTATION, SUBSET, RESERVED, HELD_OUT = 1, 2, 3, 4, 5

SKIP_HINT = "or pass --on_bad_image skip to leave such images out"


def generator(*seed: int) -> np.random.Generator:
    """A random generator that depends on these numbers only."""
    return np.random.Generator(np.random.PCG64(seed))


def order(seed: int, epoch: int, positions: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` examples come at these positions of an epoch's order."""
    return permuted(noise_seed(seed, epoch, ORDER), torch.from_numpy(positions), count).numpy()


def augmentation_draws(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """What decides about an example's augmentation in an epoch: `(NUM_DRAWS, batch)` uniform numbers in [0, 1)."""
    return uniform_double(noise_seed(seed, epoch, AUGMENTATION), torch.from_numpy(indices), NUM_DRAWS).numpy().T


def crop(images: Sequence[np.ndarray] | np.ndarray, size: tuple[int, int], draws: np.ndarray | None) -> np.ndarray:
    """Cuts a rectangle out of every image.

    Args:
        images: `(channels, height, width)` each, all of one shape.
        size: (height, width) of the rectangle.
        draws: `(3 or more, batch)` in [0, 1); rows 1 and 2 place the crop. None means the centre.
    """
    rows, columns = images[0].shape[1] - size[0], images[0].shape[2] - size[1]
    tops, lefts = [rows // 2] * len(images), [columns // 2] * len(images)
    if draws is not None:
        tops = (draws[1] * (rows + 1)).astype(np.int64).tolist()
        lefts = (draws[2] * (columns + 1)).astype(np.int64).tolist()
    places = zip(images, tops, lefts, strict=True)
    return np.stack([image[:, top : top + size[0], left : left + size[1]] for image, top, left in places])


def mirror(pixels: np.ndarray, spec: DataSpec, flips: np.ndarray) -> None:
    """Mirrors some images left to right, in place.

    Args:
        pixels: `(batch, channels, height, width)`.
        spec: Says which channels change places.
        flips: `(batch,)` bool.
    """
    channels = list(spec.mirrored_channels or range(spec.channels))
    for index in np.flatnonzero(flips):
        pixels[index] = pixels[index][channels, :, ::-1]


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

    @property
    def specs(self) -> dict[str, DataSpec]:
        """What the images of a batch are, by name."""
        return {"image": self.spec}

    def collate(self, work: tuple[np.ndarray, np.ndarray | None]) -> Batch:
        """Makes a batch as networks see it; `work` as for `gather`."""
        return finished(self.gather(work), self.specs)

    def gather(self, work: tuple[np.ndarray, np.ndarray | None]) -> Batch:
        """Makes a batch, its images in the precision in which they are stored.

        Args:
            work: `(indices, draws)`: the examples, and `(NUM_DRAWS, batch)` uniform numbers that decide about flips
                and crops; None for no augmentation.
        """
        indices, draws = work
        pixels = self._pixels(indices, draws)
        if draws is not None and self.random_flip:
            mirror(pixels, self.spec, draws[0] < 0.5)
        batch = {"image": torch.from_numpy(pixels), "index": torch.from_numpy(indices)}
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
        size = self.spec.size
        if size is None or self.pixels.shape[2:] == size:
            return self.pixels[indices]
        return crop([self.pixels[index] for index in indices], size, draws)


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
        rows, places = np.unique(self.rows[indices], return_inverse=True)
        records = self.images.fetch(rows)
        result = []
        for position, place in enumerate(places.tolist()):
            record, drawn = records[place], None if draws is None else draws[:, position : position + 1]
            result.append(read_cropped(self.reader, record, self.images.where(int(rows[place]), record), drawn))
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
    return crop([pixels], (height, width), draws)[0]
