"""A glance at stored images, undecoded: is one cut off, and is it still the one it was?"""

from __future__ import annotations

import hashlib
import zlib
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from .decoding import BadImage, Encoded, Half, Record, Stack, stored_file

# As much is read at the beginning, the middle and the end of a file.
BLOCK = 4096
JPEG_END, PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
START_OF_SCAN = 0xDA
# Where the strips of a TIFF begin, and how long they are; the same of its tiles.
TIFF_PARTS = ((273, 279), (324, 325))


# Of one of many, as compactly as may be.
GLANCE = np.dtype([("size", "i8"), ("checksum", "u4"), ("whole", "?")])


class Glance(NamedTuple):
    """What can be seen of an image without decoding it.

    Attributes:
        size: Bytes it takes; -1 where it cannot be read.
        checksum: CRC-32 of its beginning, middle and end.
        whole: Whether its end is there. False also where only decoding tells.
    """

    size: int
    checksum: int
    whole: bool


def glance(record: Record) -> Glance:
    """Looks at an image."""
    if isinstance(record, Half):
        return glance(record.whole)
    if isinstance(record, Stack):
        parts = [glance(part) for part in record.parts]
        sums = ",".join(str(part.checksum) for part in parts)
        return Glance(sum(part.size for part in parts), zlib.crc32(sums.encode()), all(part.whole for part in parts))
    if isinstance(record, np.ndarray):
        return Glance(record.nbytes, zlib.crc32(np.ascontiguousarray(record).data), False)
    try:
        with stored_file(record) as file:
            return _glance_at_file(file, is_array=_is_array(record))
    except (OSError, BadImage):
        return Glance(-1, 0, False)


def digest(glances: np.ndarray) -> str:
    """12 hexadecimal digits that stand for images in their order, glances of `GLANCE`, the same on every machine."""
    described = hashlib.sha256()
    for size, checksum in zip(glances["size"], glances["checksum"], strict=True):
        described.update(f"{size} {checksum}\n".encode())
    return described.hexdigest()[:12]


def _is_array(record: Encoded) -> bool:
    return record.data is None and record.path is not None and record.path.lower().endswith(".npy")


def _glance_at_file(file: IO[bytes], is_array: bool) -> Glance:
    size = file.seek(0, 2)
    blocks = []
    for place in (0, size // 2, size - BLOCK):
        file.seek(max(place, 0))
        blocks.append(file.read(BLOCK))
    checksum = zlib.crc32(b"".join(blocks))
    # The length of an array is that in its header, or it could not have been opened.
    return Glance(size, checksum, is_array or _is_whole(file, size, blocks[0], blocks[-1]))


def _is_whole(file: IO[bytes], size: int, beginning: bytes, end: bytes) -> bool:
    if beginning.startswith(b"\xff\xd8"):
        last = end.rfind(JPEG_END)
        return last >= 0 and size - len(end) + last > _start_of_scan(file, size)
    if beginning.startswith(b"\x89PNG"):
        return PNG_END in end
    if beginning.startswith(b"RIFF"):
        return int.from_bytes(beginning[4:8], "little") + 8 <= size
    if beginning.startswith((b"II", b"MM")):
        return _is_whole_tiff(file, size)
    return False


def _start_of_scan(file: IO[bytes], size: int) -> int:
    """Where the pixels of a JPEG begin, behind a preview that it may hold; its size where they do not."""
    place = 2
    while place < size:
        file.seek(place)
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF:
            break
        if marker[1] == START_OF_SCAN:
            return place
        place += 1 if marker[1] == 0xFF else 2 + int.from_bytes(marker[2:], "big")
    return size


def _is_whole_tiff(file: IO[bytes], size: int) -> bool:
    file.seek(0)
    try:
        with Image.open(file, formats=("TIFF",)) as image:
            if image.mode == "I":  # its values may be out of range, which only decoding tells
                return False
            tags = image.tag_v2  # type: ignore[attr-defined]
            for offsets, lengths in TIFF_PARTS:
                if offsets in tags and lengths in tags:
                    ends = [a + b for a, b in zip(tags[offsets], tags[lengths], strict=True)]
                    return max(ends) <= size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError):
        pass
    return False
