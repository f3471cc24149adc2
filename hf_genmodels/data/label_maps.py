"""Label maps: palette pictures and class index images -> the number of each pixel's class, unchanged.

A picture in palette mode holds the numbers as its indices and colours to show them by; a grey picture of 8 or 16 bits,
or an array of integers, holds the numbers alone. Nothing is ever interpolated between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError
from ..files import read_json
from .conversion import BadImage, Kind
from .spec import LabelMaps

# Of Pillow, whose pixels are whole numbers of one channel.
INDEX_MODES = ("P", "L", "1", "I;16", "I;16B", "I;16L", "I")
# Names of the classes beside the data, as they are published for segmentation models: {"0": "wall", ...}.
NAMES_FILE = "id2label.json"
MOST_CLASSES = 65536

Color = tuple[int, int, int]


def read_names(folder: Path) -> tuple[str, ...] | None:
    """The names of the classes that lie beside a data set; None where there are none.

    Raises:
        UserError: The file is damaged, or does not name the classes 0, 1, 2, ...
    """
    path = folder / NAMES_FILE
    if not path.is_file():
        return None
    names = {int(number): name for number, name in read_json(path).items() if number.isdecimal()}
    if sorted(names) != list(range(len(names))) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f'{path} must name the classes from 0 on without gaps, such as {{"0": "background", ...}}')
    return tuple(names[number] for number in range(len(names)))


def check_names(maps: LabelMaps, where: str) -> None:
    """Refuse names that do not tell classes apart.

    Args:
        maps: With names, or without any.
        where: Words for the data.

    Raises:
        UserError: One line that names the option.
    """
    if maps.names is None:
        raise UserError(
            f"the classes of {where} have no names: give them in the order of their numbers, such as --label_names "
            f"background nucleus, or in a file {NAMES_FILE} beside the data"
        )
    twice = next((name for name in maps.names if maps.names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--label_names: two classes are called {twice!r}; give each a name of its own")
    if not 2 <= len(maps.names) <= MOST_CLASSES:
        raise UserError(f"--label_names: {len(maps.names)} classes; label maps need from 2 to {MOST_CLASSES}")
    if not 0 <= maps.ignore_index < MOST_CLASSES:
        raise UserError(f"--ignore_index {maps.ignore_index}: pixels hold numbers from 0 to {MOST_CLASSES - 1}")
    if maps.ignore_index < len(maps.names):
        raise UserError(
            f"--ignore_index {maps.ignore_index} is the class {maps.names[maps.ignore_index]!r}: give a number that "
            "is none of a class"
        )


def label_kind(maps: LabelMaps) -> Kind:
    """What every label map is, however it is stored."""
    largest = max(maps.num_classes - 1, maps.ignore_index)
    return Kind("a label map", 1, 1.0, "uint8" if largest < 256 else "uint16", labels=True)


def check_picture(image: Image.Image) -> None:
    """Refuse a picture whose pixels hold no class numbers; decodes nothing.

    Raises:
        BadImage: It has several channels, or its format changes values.
    """
    if image.format == "JPEG":
        raise BadImage("is a JPEG, whose compression changes the numbers of classes: save label maps as PNG")
    if image.mode not in INDEX_MODES:
        raise BadImage(
            f"has mode {image.mode}, and a label map holds one class number a pixel: save it as a palette or grey PNG"
        )


def picture_labels(image: Image.Image, turned: bool) -> np.ndarray:
    """The class numbers of a picture, (height, width, 1); `turned` where its orientation is to be undone."""
    image = ImageOps.exif_transpose(image) if turned else image
    return np.asarray(image)[:, :, None]


def check_array(array: np.ndarray) -> None:
    """Refuse an array that is no label map.

    Raises:
        BadImage: It holds no whole numbers, or another shape than (height, width) or (height, width, 1).
    """
    if array.dtype.kind not in "bui":
        raise BadImage(f"holds {array.dtype} values, and a label map class numbers: store whole numbers")
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 1):
        raise BadImage(f"has shape {array.shape}: store label maps as (height, width)")


def checked(labels: np.ndarray, maps: LabelMaps) -> np.ndarray:
    """Class numbers in the type of `label_kind`.

    Args:
        labels: `(height, width, 1)`, whole numbers.
        maps: The classes.

    Raises:
        BadImage: A number is neither that of a class nor ignored.
    """
    labels = labels.astype(np.uint8) if labels.dtype == bool else labels
    wrong = (labels < 0) | ((labels >= maps.num_classes) & (labels != maps.ignore_index))
    if wrong.any():
        raise BadImage(
            f"holds the label {labels[wrong][0]}, and the {maps.num_classes} classes are 0 to {maps.num_classes - 1} "
            f"({maps.ignore_index} is ignored): correct it, name more classes or give --ignore_index"
        )
    return labels.astype(label_kind(maps).dtype)


def nearest(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Class numbers at another size: each pixel takes that of the pixel under its middle.

    Args:
        labels: `(height, width, 1)`.
        shape: (height, width) of the result.
    """
    if labels.shape[:2] == shape:
        return labels
    rows, columns = (
        (2 * np.arange(wanted) + 1) * side // (2 * wanted)
        for wanted, side in zip(shape, labels.shape[:2], strict=True)
    )
    return labels[rows[:, None], columns[None]]


def count_pixels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """How many pixels each class has, `(num_classes,)` int64; those that are ignored do not count."""
    return np.bincount(labels.ravel(), minlength=num_classes)[:num_classes].astype(np.int64)


def palette_colors(file: IO[bytes], num_classes: int) -> tuple[Color, ...] | None:
    """The colours of the classes in a picture's palette.

    None where it has no palette, one of too few colours, or one that shows two classes alike.
    """
    with Image.open(file) as image:
        palette = image.getpalette("RGB") if image.mode == "P" else None
    if palette is None or len(palette) < 3 * num_classes:
        return None
    colors = [(palette[3 * i], palette[3 * i + 1], palette[3 * i + 2]) for i in range(num_classes)]
    return tuple(colors) if len(set(colors)) == num_classes else None


def default_colors(num_classes: int) -> tuple[Color, ...]:
    """A colour for each class, no two alike; the first is black.

    Those of the PASCAL VOC challenge (M. Everingham et al., IJCV 2010): bit b of red, green and blue, from the highest
    on, is bit 3 b, 3 b + 1 and 3 b + 2 of the class number.
    """
    numbers = np.arange(num_classes)
    channels = [sum(((numbers >> (3 * bit + c)) & 1) << (7 - bit) for bit in range(8)) for c in range(3)]
    return tuple((int(r), int(g), int(b)) for r, g, b in zip(*channels, strict=True))


def described(maps: LabelMaps, pixels: np.ndarray, colors: tuple[Color, ...] | None = None) -> LabelMaps:
    """Label maps of a split.

    Args:
        maps: With names.
        pixels: How many of the split's pixels have each class, `(num_classes,)`.
        colors: Of a palette; None for the default ones.
    """
    colors = maps.colors or colors or default_colors(maps.num_classes)
    return replace(maps, colors=colors, pixels=tuple(map(int, pixels)))


def flat_palette(colors: Sequence[Sequence[int]]) -> list[int]:
    """Colours as Pillow's `putpalette` takes them."""
    return [value for color in colors for value in color]
