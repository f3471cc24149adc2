"""What a network has to know about the data: shape, units, classes, what an example consists of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..sizes import as_sample_size

LayoutKind = Literal["image", "pair", "domains", "reserved"]

# The order of (I0, I45, I90, I135) in a mirror, where 45 degrees are 135.
MIRRORED_ANGLES = (0, 3, 2, 1)


class Part(NamedTuple):
    """One of several images whose channels are those of an input.

    Attributes:
        name: Of its column.
        channels: Its own.
        value_scale: Its stored value that means white.
    """

    name: str
    channels: int
    value_scale: float


@dataclass(frozen=True)
class LabelMaps:
    """What the values of label maps stand for: each pixel holds the number of a class.

    Attributes:
        names: Of the classes 0, 1, ...; None where the data shall say them.
        otherwise: What they are called where neither `names` nor the data say it.
        ignore_index: The value of pixels that belong to no class: neither learnt nor measured.
        colors: Red, green and blue of each class, 0 to 255; None where nothing was read yet.
        pixels: How many pixels of the split each class has, as stored or resized; None where nothing was read yet.
    """

    names: tuple[str, ...] | None = None
    ignore_index: int = 255
    colors: tuple[tuple[int, int, int], ...] | None = None
    pixels: tuple[int, ...] | None = None
    otherwise: tuple[str, ...] | None = None

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.names or ())


@dataclass(frozen=True)
class DataSpec:
    """Shape, units and identity of one split of a data set.

    Attributes:
        name: The Hub id, the folder's own name (not its path) or `builtin:<name>`.
        channels: Channels of an image; the dimension where the examples are vectors.
        size: (height, width) of an image in pixels; None where the examples are vectors.
        value_scale: The stored value that means white: 255.0 for 8-bit images, 65535.0 for 16-bit ones, 1.0 for float
            data, 16.0 for `builtin:digits`. A batch holds `value / value_scale * 2 - 1`; vectors are not rescaled.
        class_names: Names of the labels 0, 1, ...; None where there are none.
        num_examples: Examples in the split; None when it is streamed.
        fingerprint: 12 hexadecimal digits that stand for name, variant, split, shape and, where the data are held in
            memory, their decoded content. The same in every process and on every machine.
        other: The second image of an example, see `Layout`; None where an example has one image.
        mirrored_channels: The channels in the order they have in an image that is mirrored left to right; None where
            they keep theirs. Light seen through a polariser at 45 degrees is seen at 135 degrees in a mirror.
        files: 12 hexadecimal digits that stand for the sizes and parts of the stored images where these are decoded
            one by one; None where `fingerprint` knows their content, and where they are streamed.
        label_maps: What the values stand for where the images are label maps, which a batch holds as int64 class
            numbers, `(batch, 1, height, width)`; None for images.
        parts: The images that make up one, where several columns were stacked as an input; None for whole images.
    """

    name: str
    channels: int
    size: tuple[int, int] | None
    value_scale: float
    class_names: tuple[str, ...] | None
    num_examples: int | None
    fingerprint: str
    other: DataSpec | None = None
    mirrored_channels: tuple[int, ...] | None = None
    files: str | None = None
    label_maps: LabelMaps | None = None
    parts: tuple[Part, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: `(channels, height, width)`, or `(dim,)` for vectors."""
        return (self.channels, *(self.size or ()))

    @property
    def sample_size(self) -> int | tuple[int, int] | None:
        """Of a network's configuration: the size, one number where height and width are equal."""
        return None if self.size is None else as_sample_size(*self.size)

    @property
    def is_image(self) -> bool:
        """Whether the examples are images rather than vectors."""
        return self.size is not None


@dataclass(frozen=True)
class Layout:
    """What a family's examples consist of.

    Attributes:
        kind: "image": one image, `image`. "pair": an image and its translation, `conditioning_image` and
            `target_image`, cropped and mirrored alike. "domains": images of two domains that do not belong together,
            `image_a` and `image_b`. "reserved": `image` and `constraint_image`, the latter from a fifth of the split
            that is never an `image`.
        mirrored_channels: `DataSpec.mirrored_channels` of the second image.
        label_maps: What the values of the second image stand for, where it is a label map.
    """

    kind: LayoutKind = "image"
    mirrored_channels: tuple[int, ...] | None = None
    label_maps: LabelMaps | None = None


def fingerprint(
    name: str,
    config: str | None,
    split: str,
    shape: tuple[int, ...],
    num_examples: int | None,
    content: int | None = None,
) -> str:
    """Returns 12 hexadecimal digits that identify a split.

    Args:
        name: As in `DataSpec`.
        config: Variant of the data set, if any.
        split: Name of the split.
        shape: Shape of one example.
        num_examples: Number of examples, None when streamed.
        content: CRC-32 of the decoded values, None where they are not held in memory.
    """
    described = json.dumps([name, config, split, list(shape), num_examples, content])
    return hashlib.sha256(described.encode()).hexdigest()[:12]
