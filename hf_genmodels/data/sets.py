"""Data sets whose examples can be had in any order: decoded into memory, or when asked for; `streams` has the others.

`collate` makes one batch from a description of it (its work), without any state, so that a worker process may do it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ..errors import UserError
from ..keyed import noise_seed, permuted, uniform_double
from .decoding import BadImage, Reader, Record
from .features import Images
from .spec import DataSpec

Batch = dict[str, torch.Tensor]

# Uniform numbers of an example: flip, top and left of the crop; partner, and the same three of its own image.
NUM_DRAWS = 7

# What random numbers are for: the last part of a generator's seed.
ORDER, AUGMENTATION, SUBSET, RESERVED = 1, 2, 3, 4

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
