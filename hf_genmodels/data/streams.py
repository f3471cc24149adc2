"""Data sets that are read as they come, shard by shard.

A shard is a file of the data set (`datasets.IterableDataset.num_shards`); a local folder of images is one. Everything
that is read is known by its shard and its row there, however the shards are shared out (`lanes`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch

from ..errors import UserError
from .decoding import BadImage, Record
from .features import ImageColumn, no_class, reading
from .placing import Batch, finished
from .reader import Reader
from .sets import ArrayDataset, LazyDataset, cropped, mirror, read_cropped
from .spec import DataSpec

logger = logging.getLogger(__name__)

# An example's index is `shard * ROWS_OF_A_SHARD + row`: of a stream of one shard, the row.
ROWS_OF_A_SHARD = 2**32


@dataclass(frozen=True)
class StreamExample:
    """One example on its way to a batch.

    Attributes:
        index: Its shard and its row in it, see `ROWS_OF_A_SHARD`.
        record: The undecoded image, or the `(channels, height, width)` array `Reader.read` made of it.
        decoded: Which of the two it is.
        label: Its class, if known.
    """

    index: int
    record: Record
    decoded: bool
    label: int | None


class ShardReader:
    """Reads the usable examples of one shard.

    Args:
        dataset: Whose shard.
        shard: Its number.
        state: From `state()`; None for the beginning.
    """

    def __init__(self, dataset: StreamedDataset, shard: int, state: dict[str, Any] | None = None) -> None:
        self.dataset = dataset
        self.shard = shard
        self.row = 0
        self.stream = dataset.stream.shard(num_shards=dataset.num_shards, index=shard)
        if state is not None:
            self.row = state["row"]
            self.stream.load_state_dict(state["stream"])

    def state(self) -> dict[str, Any]:
        """Where the example after the last one begins; plain values."""
        return {"row": self.row, "stream": self.stream.state_dict()}

    def __iter__(self) -> Iterator[StreamExample]:
        """Beginning where the state says.

        Raises:
            UserError: The shard cannot be read on, or a row is of no use.
        """
        dataset = self.dataset
        # Unlike `iter(stream)`, `iter` does not split the shards once more in a DataLoader's worker.
        rows = self.stream.iter(batch_size=1)
        while True:
            with reading(
                f"{dataset.of_shard(self.shard)}{dataset.images.place}", f" beyond its first {self.row} rows"
            ):
                cells = next(rows, None)
            if cells is None:
                return
            self.row += 1
            example = dataset.example(self.shard, self.row - 1, {name: cell for name, (cell,) in cells.items()})
            if example is not None:
                yield example


class StreamedDataset:
    """A data set that is read shard by shard, never as a whole.

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
        shuffle_buffer: Undecoded examples that are held back to shuffle them, of all shards read at a time together.
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
        shuffle_buffer: int = 1000,
    ) -> None:
        assert isinstance(images.split, datasets.IterableDataset)
        self.images = images
        columns = [images.column] if label_column is None else [images.column, label_column]
        self.stream = images.split.select_columns(columns)
        self.num_shards: int = self.stream.num_shards
        self.label_column = label_column
        self.reader = reader
        self.spec = spec
        self.skip_bad = skip_bad
        self.excluded = excluded
        self.limit = limit
        self.random_flip = random_flip
        self.shuffle_buffer = shuffle_buffer
        self.skipped = 0

    @property
    def augmented(self) -> bool:
        """Whether training batches depend on random draws."""
        return self.random_flip or (self.spec.is_image and not self.reader.center_crop)

    def examples(self, shards: Sequence[int] | None = None) -> Iterator[StreamExample]:
        """The usable examples of some shards, or of all, one after another."""
        chosen = range(self.num_shards) if shards is None else shards
        before = self.skipped
        everything = itertools.chain.from_iterable(ShardReader(self, shard) for shard in chosen)
        yield from itertools.islice(everything, self.limit)
        if self.skipped > before:
            logger.warning("skipped %d bad images of %s", self.skipped - before, self.images.place)

    def example(self, shard: int, row: int, cells: dict[str, Any]) -> StreamExample | None:
        """What one row holds; None where it is passed over.

        Raises:
            UserError: It has no label, or that of no class.
        """
        label, place = None, self.images.place
        if self.label_column is not None:
            label, num_classes = cells[self.label_column], len(self.spec.class_names or ())
            if label is None:
                raise UserError(
                    f"{self.of_shard(shard)}row {row} of {place} has no label in column {self.label_column!r}"
                )
            if num_classes and not 0 <= label < num_classes:
                complaint = no_class(row, place, label, self.label_column, num_classes)
                raise UserError(f"{self.of_shard(shard)}{complaint}")
        if self.excluded is not None and label == self.excluded:
            return None
        index = shard * ROWS_OF_A_SHARD + row
        record = self.images.record(cells[self.images.column])
        if self.skip_bad:
            try:
                record = self.reader.read(record)
            except BadImage as error:
                if self.skipped == 0:
                    logger.warning("skipping bad images: %s %s", self._where(index, record), error)
                self.skipped += 1
                return None
        return StreamExample(index, record, self.skip_bad, label)

    def of_shard(self, shard: int) -> str:
        """The beginning of a place in error messages."""
        return "" if self.num_shards == 1 else f"shard {shard} of {self.num_shards}, "

    def _where(self, index: int, record: Record) -> str:
        shard, row = divmod(index, ROWS_OF_A_SHARD)
        return f"{self.of_shard(shard)}{self.images.where(row, record)}"

    @property
    def specs(self) -> dict[str, DataSpec]:
        """What the images of a batch are, by name."""
        return {"image": self.spec}

    def collate(self, work: tuple[Sequence[StreamExample], np.ndarray | None]) -> Batch:
        """Makes a batch as networks see it; `work` as for `gather`."""
        return finished(self.gather(work), self.specs)

    def gather(self, work: tuple[Sequence[StreamExample], np.ndarray | None]) -> Batch:
        """Makes a batch, its images in the precision in which they are stored.

        Args:
            work: `(examples, draws)`: the examples, and `(NUM_DRAWS, batch)` uniform numbers that decide about flips
                and crops; None for no augmentation.
        """
        examples, draws = work
        pixels = np.stack(
            [self._cropped(example, None if draws is None else draws[:, [i]]) for i, example in enumerate(examples)]
        )
        if draws is not None and self.random_flip:
            mirror(pixels, self.spec, draws[0] < 0.5)
        index = torch.tensor([example.index for example in examples])
        batch: dict[str, Any] = {"image": torch.from_numpy(pixels), "index": index}
        if self.label_column is not None:
            batch["label"] = torch.tensor([example.label for example in examples])
        return batch

    def _cropped(self, example: StreamExample, draws: np.ndarray | None) -> np.ndarray:
        if not example.decoded:
            where = self._where(example.index, example.record)
            return read_cropped(self.reader, example.record, where, draws)
        assert isinstance(example.record, np.ndarray)
        return cropped(example.record, self.reader, draws)


ImageDataset = ArrayDataset | LazyDataset | StreamedDataset
