"""The first look at the images: what are they, and which of them do not belong?"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import datasets
import numpy as np

from ..errors import UserError
from .arguments import DataArguments
from .conversion import Conversion
from .decoding import BadImage, Header, Kind, Record, opened
from .features import ImageColumn, Images, reading
from .glances import GLANCE, glance
from .label_maps import count_pixels
from .reader import Reader
from .sets import SKIP_HINT
from .sharing import Share

Found = TypeVar("Found")

logger = logging.getLogger(__name__)

# Images of a stream that are looked at to learn what the others should be.
STREAM_PREVIEW = 100
# Images whose values are looked at where not all are decoded.
FEW = 16
# A million images have a million of each: of which row, which of the kinds, how large.
HEADER = np.dtype([("row", "i8"), ("kind", "i4"), ("height", "i4"), ("width", "i4")])


@dataclass(frozen=True)
class Expected:
    """What every image must be: of the kind and, unless one is asked for, the size that most have."""

    kind: Kind
    size: tuple[int, int] | None


class Headers:
    """Kind and size of the image in each of some rows.

    Args:
        table: `(rows,)` of `HEADER`, the rows ascending.
        kinds: The kinds that its numbers stand for.
    """

    def __init__(self, table: np.ndarray, kinds: Sequence[Kind]) -> None:
        self.table = table
        self.kinds = kinds

    @classmethod
    def joined(cls, parts: Sequence[Headers]) -> Headers:
        """Those of several parts of the rows, in order."""
        kinds = list(dict.fromkeys(kind for part in parts for kind in part.kinds))
        tables = []
        for part in parts:
            table = part.table.copy()
            table["kind"] = np.array([kinds.index(kind) for kind in part.kinds], "i4")[table["kind"]]
            tables.append(table)
        return cls(np.concatenate(tables), kinds)

    @property
    def rows(self) -> np.ndarray:
        """Those that have one."""
        return self.table["row"]

    def of(self, rows: np.ndarray) -> Headers:
        """Those of some of the rows."""
        return Headers(self.table[np.searchsorted(self.rows, rows)], self.kinds)

    def sizes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heights and widths, `(rows,)` each, of some of the rows."""
        table = self.of(rows).table
        return table["height"].astype(np.int64), table["width"].astype(np.int64)

    def distinct(self) -> tuple[dict[Header, int], np.ndarray]:
        """How many have each header, the one that comes first first; and for each row, which of these it has."""
        columns = self.table[["kind", "height", "width"]]
        found, first, which, counts = np.unique(columns, return_index=True, return_inverse=True, return_counts=True)
        order = np.argsort(first)
        headers = [Header(self.kinds[kind], height, width) for kind, height, width in found[order].tolist()]
        return dict(zip(headers, counts[order].tolist(), strict=True)), np.argsort(order)[which]


@dataclass
class Skipped:
    """Images that were left out.

    Attributes:
        count: How many.
        first: Words about the first one.
        last: Words about the last one.
    """

    count: int = 0
    first: str = ""
    last: str = ""

    def add(self, other: Skipped) -> None:
        """Those that come after these."""
        self.first, self.last = self.first or other.first, other.last or self.last
        self.count += other.count


class Survey:
    """Goes through the images of a split, and stops at a bad one or leaves it out, as the user asked.

    What takes opening or decoding each file is shared by the processes of a machine; all find the same.

    Args:
        args: The user's options.
        images: The column.
        share: Which of the processes this is.
        conversion: What is done to modes and values; by default what the options say.
    """

    CHUNK = 1000

    def __init__(
        self, args: DataArguments, images: Images, share: Share, conversion: Conversion | None = None
    ) -> None:
        self.args = args
        self.conversion = args.conversion if conversion is None else conversion
        self.images = images
        self.share = share
        self.skipped = Skipped()

    def _bad(self, row: int, record: Record, reason: BadImage, skipped: Skipped) -> None:
        words = f"{self.images.where(row, record)} {reason}"
        if self.args.on_bad_image == "error":
            raise UserError(f"{words}, {SKIP_HINT}") from reason
        skipped.add(Skipped(1, words, words))

    def _records(self, rows: np.ndarray, what: str) -> Iterator[tuple[int, Record]]:
        chunks = [rows[i : i + self.CHUNK] for i in range(0, len(rows), self.CHUNK)]
        # Shown only where it takes long enough to wonder.
        with datasets.utils.tqdm(total=len(rows), desc=what, delay=3, disable=self.share.rank > 0 or None) as progress:
            for chunk in chunks:
                yield from zip(chunk.tolist(), self.images.fetch(chunk), strict=True)
                progress.update(len(chunk))

    def _shared(self, work: Callable[[Skipped], Found]) -> list[Found]:
        """What each process found in its part of the rows; counts what they skipped."""

        def mine() -> tuple[Found, Skipped]:
            skipped = Skipped()
            return work(skipped), skipped

        everyones = self.share.together(mine)
        for _, skipped in everyones:
            self.skipped.add(skipped)
        return [found for found, _ in everyones]

    def headers(self, rows: np.ndarray) -> Headers:
        """Mode and size of every image that has some."""

        def look(skipped: Skipped) -> Headers:
            part, kinds, count = self.share.of(rows), dict[Kind, int](), 0
            table = np.empty(len(part), HEADER)
            for row, record in self._records(part, "Looking at images"):
                try:
                    with opened(record, self.conversion) as (header, _):
                        kind = kinds.setdefault(header.kind, len(kinds))
                        table[count] = row, kind, header.height, header.width
                        count += 1
                except BadImage as error:
                    self._bad(row, record, error, skipped)
            return Headers(table[:count].copy(), list(kinds))

        headers = Headers.joined(self._shared(look))
        if not len(headers.rows):
            raise UserError(f"no usable image in {self.images.place}: {self.skipped.first}")
        return headers

    def expected(self, headers: Headers) -> Expected:
        """What most images are."""
        return expect(headers.distinct()[0], self.args)

    def matching(self, headers: Headers, reader: Reader) -> np.ndarray:
        """The rows whose image fits the others."""
        counts, which = headers.distinct()
        misfits = [_misfit(header, reader) for header in counts]
        fits = np.array([each is None for each in misfits])[which]
        for row, header in zip(headers.rows[~fits].tolist(), which[~fits].tolist(), strict=True):
            (record,), reason = self.images.fetch(np.array([row])), misfits[header]
            assert reason is not None
            self._bad(row, record, reason, self.skipped)
        if not fits.any():
            raise UserError(f"no usable image in {self.images.place}: {self.skipped.last}")
        return headers.rows[fits]

    def decode(self, rows: np.ndarray, reader: Reader, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Decodes all images, in each process: `(rows, pixels)` of those that could be."""
        pixels = np.empty((len(rows), *shape), dtype=reader.kind.dtype)
        kept = self._some_left(self._read(rows, reader, self.skipped, pixels.__setitem__))
        return kept, pixels[: len(kept)]

    def readable(self, rows: np.ndarray, reader: Reader) -> np.ndarray:
        """The rows whose image can be decoded."""
        parts = self._shared(lambda skipped: self._read(self.share.of(rows), reader, skipped))
        return self._some_left(np.concatenate(parts))

    def glances(self, rows: np.ndarray) -> np.ndarray:
        """A glance at each image, `(rows,)` of `GLANCE`."""

        def look(_skipped: Skipped) -> np.ndarray:
            part = self.share.of(rows)
            found = np.empty(len(part), GLANCE)
            for index, (_row, record) in enumerate(self._records(part, "Checking images")):
                found[index] = glance(record)
            return found

        return np.concatenate(self._shared(look))

    def whole(self, rows: np.ndarray, reader: Reader, is_whole: np.ndarray) -> None:
        """Finds images that are cut off, and values that cannot be used, before training meets them.

        What a glance shows to be whole is not decoded, floats apart, whose values may be anything.

        Args:
            rows: Of the images.
            reader: Decodes them.
            is_whole: `(rows,)`, what a glance at each has shown.

        Raises:
            UserError: There is one.
        """
        doubtful = rows if reader.kind.dtype == "float32" else rows[~is_whole]
        self._shared(lambda skipped: self._read(self.share.of(doubtful), reader, skipped))

    def counted(self, rows: np.ndarray, reader: Reader, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows whose label map can be read, and the pixels of each class in all of them, `(num_classes,)`.

        Each is decoded, since a label without a class may be in any.
        """

        def look(skipped: Skipped) -> tuple[np.ndarray, np.ndarray]:
            counts = np.zeros(num_classes, np.int64)

            def count(_place: int, labels: np.ndarray) -> None:
                counts[:] += count_pixels(labels, num_classes)

            return self._read(self.share.of(rows), reader, skipped, count), counts

        kept, pixels = zip(*self._shared(look), strict=True)
        return self._some_left(np.concatenate(kept)), np.sum(pixels, axis=0)

    def _read(
        self,
        rows: np.ndarray,
        reader: Reader,
        skipped: Skipped,
        use: Callable[[int, np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """The rows whose image can be decoded; `use` gets each, and how many came before it."""
        is_kept, count = np.zeros(len(rows), bool), 0
        for index, (row, record) in enumerate(self._records(rows, "Decoding images")):
            try:
                pixels = reader.read(record)
            except BadImage as error:
                self._bad(row, record, error, skipped)
                continue
            if use is not None:
                use(count, pixels)
            is_kept[index], count = True, count + 1
        return rows[is_kept]

    def _some_left(self, rows: np.ndarray) -> np.ndarray:
        if not len(rows):
            raise UserError(f"no usable image in {self.images.place}: {self.skipped.last}")
        return rows

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
        if self.skipped.count and self.share.rank == 0:
            logger.warning(
                "skipped %d bad images of %s; the first: %s", self.skipped.count, self.images.place, self.skipped.first
            )


def _misfit(header: Header, reader: Reader) -> BadImage | None:
    try:
        reader.check(header)
    except BadImage as error:
        return error
    return None


def expect(headers: Mapping[Header, int], args: DataArguments) -> Expected:
    """What most of some images are, of which so many have each header."""
    kinds: Counter[Kind] = Counter()
    for header, count in headers.items():
        kinds[header.kind] += count
    kind = kinds.most_common(1)[0][0]
    if args.size is not None or kind.vector:
        return Expected(kind, None)
    sizes: Counter[tuple[int, int]] = Counter()
    for header, count in headers.items():
        if header.kind == kind:
            sizes[header.height, header.width] += count
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
    return expect(Counter(headers), args)
