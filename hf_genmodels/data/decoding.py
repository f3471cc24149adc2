"""One stored image -> one array, in its own precision, or a reason why not.

Pillow opens a file lazily, so its mode and size cost one header; only `pixels` decodes. A JPEG that is to become much
smaller is decoded at a half, a quarter or an eighth of its size, which leaves out most of the work (libjpeg scales
within the discrete cosine transform).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from tokenize import TokenError
from typing import IO, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from .conversion import AS_STORED, BadImage, Conversion, Kind
from .label_maps import check_array, check_picture, checked, label_kind, picture_labels
from .listing import UNREADABLE
from .resizing import LANCZOS

# Formats Pillow decodes by itself. Others, such as EPS, would start a program on the file's content.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA", "JPEG2000")

EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Encoded:
    """An image as it is stored: the bytes of a file, or the path of one."""

    data: bytes | pa.Buffer | None
    path: str | None


@dataclass(frozen=True)
class Stack:
    """An image whose channels are stored as several ones.

    Attributes:
        parts: The images, of one size.
        option: Which option named their columns.
        mixed: Whether they may be of several kinds; where types or units differ, the stack is float32 in [0, 1].
    """

    parts: tuple[Encoded | np.ndarray, ...]
    option: str = "image_columns"
    mixed: bool = False


@dataclass(frozen=True)
class Half:
    """The left or the right half of an image."""

    whole: Encoded | np.ndarray
    right: bool


# An image column holds files; an array column holds arrays; several columns hold the channels of one image.
Record = Encoded | np.ndarray | Stack | Half


class Load(Protocol):
    """Decodes an opened image."""

    def __call__(self, reduce: int = 1, shape: tuple[int, int] | None = None) -> np.ndarray:
        """At one over `reduce` of its size, if its format can do that; 8-bit pictures resized to `shape`, if given."""


class Header(NamedTuple):
    """Kind and size of an image; height and width are 0 for a vector."""

    kind: Kind
    height: int
    width: int


_GREY16 = Kind("16-bit grey (I;16)", 1, 65535.0, "uint16")
PILLOW_KINDS = {
    "1": Kind("1-bit black and white", 1, 255.0, "uint8"),
    "L": Kind("8-bit grey (L)", 1, 255.0, "uint8"),
    "P": Kind("palette (P)", 3, 255.0, "uint8"),
    "RGB": Kind("RGB", 3, 255.0, "uint8"),
    "I;16": _GREY16,
    "I;16B": _GREY16,
    "I;16L": _GREY16,
    "I": _GREY16,
    "F": Kind("float grey (F)", 1, 1.0, "float32"),
}
# Of more than 8 bits, which Pillow would cut to 8.
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")


def _pillow_kind(image: Image.Image, conversion: Conversion) -> Kind:
    if conversion.label_maps is not None:
        check_picture(image)
        return label_kind(conversion.label_maps)
    if conversion.mode is None:
        if "transparency" in image.info or "A" in image.getbands():
            raise BadImage(
                f"has an alpha channel (mode {image.mode}): save it without transparency, or give --convert rgb"
            )
        if image.mode not in PILLOW_KINDS:
            raise BadImage(f"has mode {image.mode}: save it as grey or RGB, or give --convert rgb")
    raw_mode = image.tile[0][3] if image.tile else ""  # type: ignore[attr-defined]
    if image.mode == "RGB" and "16" in str(raw_mode if isinstance(raw_mode, str) else raw_mode[0]):
        raise BadImage("is 16-bit RGB, which Pillow would cut to 8 bits: save it as .npy")
    if conversion.mode is not None and image.mode not in DEEP_MODES:
        return PILLOW_KINDS["RGB" if conversion.mode == "rgb" else "L"]
    return PILLOW_KINDS[image.mode]


def _pillow_pixels(
    image: Image.Image, turned: bool, conversion: Conversion, reduce: int, shape: tuple[int, int] | None
) -> np.ndarray:
    width, height = image.size
    # Where it does not divide the sides, the last row and column stand for less: turned, they would be the first.
    if isinstance(image, JpegImageFile) and reduce > 1 and not (turned and any(side % reduce for side in image.size)):
        image.draft(None, (image.width // reduce, image.height // reduce))
    if turned:
        image = ImageOps.exif_transpose(image)
    if conversion.mode is not None and image.mode not in DEEP_MODES:
        image = image.convert("RGB" if conversion.mode == "rgb" else "L")
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if shape is not None and conversion.value_range is None and image.mode in ("L", "RGB"):
        is_whole = turned or image.size == (width, height)
        box = (0, 0, *image.size) if is_whole else (0, 0, width / reduce, height / reduce)
        if image.size != shape[::-1]:
            image = image.resize(shape[::-1], LANCZOS, box)
    pixels = np.asarray(image)
    if image.mode == "I" and conversion.value_range is None and (pixels.min() < 0 or pixels.max() > 65535):
        raise BadImage(
            f"holds values from {pixels.min()} to {pixels.max()}, not 0 to 65535: save it as 16-bit grey, or give "
            "--value_range"
        )
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _array_header(array: np.ndarray, conversion: Conversion) -> Header:
    if conversion.label_maps is not None:
        check_array(array)
        return Header(label_kind(conversion.label_maps), array.shape[0], array.shape[1])
    if array.ndim not in (1, 2, 3) or array.size == 0:
        raise BadImage(f"has shape {array.shape}: store (height, width) or (height, width, channels)")
    if array.ndim == 1:
        return Header(Kind(f"a vector of {len(array)} values", len(array), 1.0, "float32", True), 0, 0)
    allowed = "bf" if conversion.value_range is None else "bfiu"
    if array.dtype.kind not in allowed and array.dtype not in (np.uint8, np.uint16):
        raise BadImage(f"holds {array.dtype} values: store uint8, uint16 or float in [0, 1], or give --value_range")
    channels = 1 if array.ndim == 2 else array.shape[2]
    if array.dtype in (np.uint8, np.uint16):
        kind = Kind(f"a {array.dtype} array with {channels} channel(s)", channels, 0.0, array.dtype.name)
        kind = kind._replace(value_scale=float(np.iinfo(array.dtype).max))
    elif array.dtype.kind in "iu":
        kind = Kind(f"a {array.dtype} array with {channels} channel(s)", channels, 1.0, "float32")
    else:
        kind = Kind(f"a float array with {channels} channel(s)", channels, 1.0, "float32")
    return Header(kind, array.shape[0], array.shape[1])


def _stored_array(path: str) -> np.ndarray:
    """The array of a `.npy` file, of which only the header is read so far."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (TokenError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        # What numpy lets through of reading the header as a piece of Python, and of mapping the size it tells.
        raise BadImage(f"cannot be read (its header is damaged: {_first_line(error)}): save it again") from error


def stored_file(record: Encoded) -> IO[bytes]:
    """Opens the bytes of an image as they are stored: from memory, a disk, or the Hub (`hf://`).

    Raises:
        BadImage: It holds neither bytes nor a path, or an address elsewhere.
    """
    if record.data is not None:
        return pa.BufferReader(record.data)
    if record.path is None:
        raise BadImage("is empty")
    if "://" in record.path:
        if not record.path.rpartition("::")[2].startswith("hf://"):
            raise BadImage("is an address, and nothing is fetched from there: store the image itself")
        from datasets.utils.file_utils import xopen

        return xopen(record.path, "rb")
    return open(record.path, "rb")


@contextmanager
def opened(record: Record, conversion: Conversion = AS_STORED) -> Iterator[tuple[Header, Load]]:
    """Opens an image: `(header, pixels)`, where `pixels()` is `(height, width, channels)`, or `(dim,)` for a vector.

    `pixels(2)`, `pixels(4)` and `pixels(8)` of a JPEG are `(ceil(height / 2), ceil(width / 2), channels)` and so on,
    decoded at that size; parts of an image, and other formats, are decoded whole.

    Raises:
        BadImage: It cannot be read, or has a mode that would have to be changed to be used.
    """
    if isinstance(record, Stack):
        with ExitStack() as files:
            parts = [files.enter_context(_opened_part(part, conversion)) for part in record.parts]
            header = _stacked_header([header for header, _ in parts], record)
            yield header, lambda reduce=1, shape=None: _stacked(header.kind, parts)
        return
    if isinstance(record, Half):
        with opened(record.whole, conversion) as (header, whole):
            half = _half_header(header)
            begin = half.width if record.right else 0
            yield half, lambda reduce=1, shape=None: whole()[:, begin : begin + half.width]
        return
    if isinstance(record, np.ndarray):
        array = record
        yield _converted(
            _array_header(array, conversion), lambda reduce=1, shape=None: _with_channels(array), conversion
        )
        return
    try:
        if record.data is None and record.path is not None and record.path.lower().endswith(".npy"):
            array = _stored_array(record.path)
            if array.ndim == 1:
                raise BadImage(f"has shape {array.shape}: store (height, width) or (height, width, channels)")
            yield _converted(
                _array_header(array, conversion), lambda reduce=1, shape=None: _with_channels(array), conversion
            )
            return
        with stored_file(record) as file, Image.open(file, formats=FORMATS) as image:
            # Pillow looks for the orientation of a PNG in its whole data; where it is in the header, `info` has it.
            # A photograph of some cameras holds a small one for its preview (MPO).
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise BadImage("holds several pictures, of which only the first would be read: save each as a file")
            turn = image.getexif().get(EXIF_ORIENTATION, 1) if "exif" in image.info else 1
            width, height = image.size if turn < 5 else image.size[::-1]
            header = Header(_pillow_kind(image, conversion), height, width)

            def load(reduce: int = 1, shape: tuple[int, int] | None = None) -> np.ndarray:
                if conversion.label_maps is not None:
                    return picture_labels(image, turn != 1)
                return _pillow_pixels(image, turn != 1, conversion, reduce, shape)

            yield _converted(header, load, conversion)
    except UnidentifiedImageError as error:
        if isinstance(record.path, str) and record.path.lower().endswith(UNREADABLE):
            raise BadImage("is an image of a kind that is not read: save it as .png, .jpg or .npy") from error
        raise BadImage("is no image: remove it, or save it again") from error
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(f"cannot be read ({_first_line(error)}): remove it, or save it again") from error


def _with_channels(array: np.ndarray) -> np.ndarray:
    return array if array.ndim != 2 else array[:, :, None]


def _converted(header: Header, load: Load, conversion: Conversion) -> tuple[Header, Load]:
    maps = conversion.label_maps
    if maps is not None:
        return header, lambda reduce=1, shape=None: checked(load(), maps)
    kind = conversion.kind(header.kind)
    return header._replace(kind=kind), lambda reduce=1, shape=None: conversion.pixels(
        header.kind, lambda: load(reduce, shape)
    )


@contextmanager
def _opened_part(part: Encoded | np.ndarray, conversion: Conversion) -> Iterator[tuple[Header, Load]]:
    """`opened` of one image of a stack; says which file is bad."""
    try:
        with opened(part, conversion) as found:
            yield found
    except BadImage as error:
        if isinstance(part, Encoded) and part.path is not None:
            raise BadImage(f"has a part, {part.path}, which {error}") from error
        raise


def _half_header(header: Header) -> Header:
    if header.kind.vector or header.width % 2:
        what = header.kind.label if header.kind.vector else f"{header.width} pixels wide"
        raise BadImage(f"is {what}, and has no two halves side by side: leave out --side_by_side")
    return header._replace(width=header.width // 2)


def _stacked_header(headers: list[Header], stack: Stack) -> Header:
    first = headers[0]
    for header in headers:
        if header.kind.vector:
            raise BadImage(f"is stacked from vectors: name columns of images in --{stack.option}")
        if header != first and (not stack.mixed or header[1:] != first[1:]):
            alike = "of one size" if stack.mixed else "alike"
            raise BadImage(
                f"is stacked from {first.kind.label} of {first.height}x{first.width} and {header.kind.label} of "
                f"{header.height}x{header.width}: all columns of --{stack.option} must be {alike}"
            )
    kinds = [header.kind for header in headers]
    kind, channels = kinds[0], sum(each.channels for each in kinds)
    if len(set(kinds)) == 1:
        return first._replace(kind=kind._replace(label=f"{len(kinds)} x {kind.label}", channels=channels))
    if len({(each.dtype, each.value_scale) for each in kinds}) > 1:
        kind = kind._replace(value_scale=1.0, dtype="float32")
    return first._replace(kind=kind._replace(label=" + ".join(each.label for each in kinds), channels=channels))


def _stacked(kind: Kind, parts: list[tuple[Header, Load]]) -> np.ndarray:
    """The images of a stack as one, in its unit."""
    images = []
    for header, load in parts:
        pixels = load().astype(kind.dtype, copy=False)
        images.append(pixels if header.kind.value_scale == kind.value_scale else pixels / header.kind.value_scale)
    return np.concatenate(images, axis=2).astype(kind.dtype, copy=False)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


__all__ = [
    "BadImage",
    "Encoded",
    "Half",
    "Header",
    "Kind",
    "Record",
    "Stack",
    "opened",
    "stored_file",
]
