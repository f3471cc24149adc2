"""The first look at the images: what are they, and which of them do not belong?"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from ..errors import UserError
from .arguments import DataArguments
from .decoding import BadImage, Header, Kind, Reader, Record, opened
from .features import ImageColumn, Images, reading
from .glances import Glance, glance
from .sets import SKIP_HINT

logger = logging.getLogger(__name__)

# Images of a stream that are looked at to learn what the others should be.
STREAM_PREVIEW = 100
# Images whose values are looked at where not all are decoded.
FEW = 16


@dataclass(frozen=True)
class Expected:
    """What every image must be: of the kind and, unless one is asked for, the size that most have."""

    kind: Kind
    size: tuple[int, int] | None


class Survey:
    """Goes through the images of a split, and stops at a bad one or leaves it out, as the user asked."""

    CHUNK = 1000

    def __init__(self, args: DataArguments, images: Images) -> None:
        self.args = args
        self.images = images
        self.skipped: list[str] = []

    def _bad(self, row: int, record: Record, reason: BadImage) -> None:
        words = f"{self.images.where(row, record)} {reason}"
        if self.args.on_bad_image == "error":
            raise UserError(f"{words}, {SKIP_HINT}") from reason
        self.skipped.append(words)

    def _records(self, rows: np.ndarray, what: str) -> Iterator[tuple[int, Record]]:
        chunks = [rows[i : i + self.CHUNK] for i in range(0, len(rows), self.CHUNK)]
        # Shown only where it takes long enough to wonder.
        with datasets.utils.tqdm(total=len(rows), desc=what, delay=3) as progress:
            for chunk in chunks:
                yield from zip(chunk.tolist(), self.images.fetch(chunk), strict=True)
                progress.update(len(chunk))

    def headers(self, rows: np.ndarray) -> dict[int, Header]:
        """Mode and size of every image that has some."""
        headers = {}
        for row, record in self._records(rows, "Looking at images"):
            try:
                with opened(record, self.args.conversion) as (header, _):
                    headers[row] = header
            except BadImage as error:
                self._bad(row, record, error)
        if not headers:
            raise UserError(f"no usable image in {self.images.place}: {self.skipped[0]}")
        return headers

    def expected(self, headers: dict[int, Header]) -> Expected:
        """What most images are."""
        return expect(list(headers.values()), self.args)

    def matching(self, rows: np.ndarray, headers: dict[int, Header], reader: Reader) -> np.ndarray:
        """The rows whose image fits the others."""
        kept = []
        for row in rows.tolist():
            try:
                reader.check(headers[row])
                kept.append(row)
            except BadImage as error:
                (record,) = self.images.fetch(np.array([row]))
                self._bad(row, record, error)
        if not kept:
            raise UserError(f"no usable image in {self.images.place}: {self.skipped[-1]}")
        return np.array(kept)

    def decode(self, rows: np.ndarray, reader: Reader, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Decodes all images: `(rows, pixels)` of those that could be."""
        pixels = np.empty((len(rows), *shape), dtype=reader.kind.dtype)
        kept = self._read(rows, reader, pixels)
        return kept, pixels[: len(kept)]

    def readable(self, rows: np.ndarray, reader: Reader) -> np.ndarray:
        """The rows whose image can be decoded."""
        return self._read(rows, reader, None)

    def glances(self, rows: np.ndarray) -> dict[int, Glance]:
        """A glance at each image."""
        return {row: glance(record) for row, record in self._records(rows, "Checking images")}

    def whole(self, rows: np.ndarray, reader: Reader, glances: Mapping[int, Glance]) -> None:
        """Finds images that are cut off, and values that cannot be used, before training meets them.

        What a glance shows to be whole is not decoded, floats apart, whose values may be anything.

        Raises:
            UserError: There is one.
        """
        floats = reader.kind.dtype == "float32"
        doubtful = [row for row in rows.tolist() if floats or not glances[row].whole]
        if doubtful:
            self._read(np.array(doubtful), reader, None)

    def _read(self, rows: np.ndarray, reader: Reader, into: np.ndarray | None) -> np.ndarray:
        kept: list[int] = []
        for row, record in self._records(rows, "Decoding images"):
            try:
                pixels = reader.read(record)
            except BadImage as error:
                self._bad(row, record, error)
                continue
            if into is not None:
                into[len(kept)] = pixels
            kept.append(row)
        if not kept:
            raise UserError(f"no usable image in {self.images.place}: {self.skipped[-1]}")
        return np.array(kept)

    def some(self, rows: np.ndarray, reader: Reader) -> np.ndarray:
        """The values of a few images, evenly spread, in one row; a bad one is told of where it is used."""
        spread = np.unique(np.linspace(0, len(rows) - 1, FEW).round().astype(int))
        values = [np.zeros(0, reader.kind.dtype)]
        for record in self.images.fetch(rows[spread]):
            with contextlib.suppress(BadImage):
                values.append(reader.read(record).ravel())
        return np.concatenate(values)

    def report(self) -> None:
        """Says how many images were left out."""
        if self.skipped:
            logger.warning(
                "skipped %d bad images of %s; the first: %s", len(self.skipped), self.images.place, self.skipped[0]
            )


def expect(headers: list[Header], args: DataArguments) -> Expected:
    """What most of these images are."""
    kind = Counter(header.kind for header in headers).most_common(1)[0][0]
    if args.size is not None or kind.vector:
        return Expected(kind, None)
    sizes = Counter((header.height, header.width) for header in headers if header.kind == kind)
    return Expected(kind, sizes.most_common(1)[0][0])


def preview(args: DataArguments, images: ImageColumn) -> Expected:
    """What most of the first images of a stream are.

    Raises:
        UserError: One of them is bad, or all are and bad ones are to be skipped.
    """
    headers = []
    problems = []
    with reading(images.place):
        beginning: list[dict[str, Any]] = list(itertools.islice(images.split, STREAM_PREVIEW))
    for row, example in enumerate(beginning):
        record = images.record(example[images.column])
        try:
            with opened(record, args.conversion) as (header, _):
                headers.append(header)
        except BadImage as error:
            problems.append(f"{images.where(row, record)} {error}")
            if args.on_bad_image == "error":
                raise UserError(f"{problems[0]}, {SKIP_HINT}") from error
    if not headers:
        raise UserError(f"no usable image at the beginning of {images.place}: {(problems or ['it is empty'])[0]}")
    return expect(headers, args)
