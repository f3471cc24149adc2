"""What images are turned into as they are decoded, where the user asks for it: other modes, other ranges of values."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .spec import LabelMaps

# Of red, green and blue in grey, as Pillow has them (ITU-R 601-2).
LUMA = np.array([0.299, 0.587, 0.114])
# Images whose largest value is at most this share of white are warned of: 14 bits in 16.
DARK = 0.25

logger = logging.getLogger(__name__)


class BadImage(Exception):
    """An image that cannot be used. Its text continues the sentence "<file> ..." and says what to do about it."""


class Kind(NamedTuple):
    """What the values of an image are. All images of a data set have the same kind.

    Attributes:
        label: Words for an error message.
        channels: Number of channels; the dimension of a vector.
        value_scale: The stored value that means white.
        dtype: Name of the numpy type the values are kept in.
        vector: Whether it is no image at all.
        labels: Whether the values are numbers of classes.
    """

    label: str
    channels: int
    value_scale: float
    dtype: str
    vector: bool = False
    labels: bool = False


@dataclass(frozen=True)
class Conversion:
    """What is asked for.

    Attributes:
        mode: "rgb" or "grey": images of 3 channels or of 1, in their own precision; None leaves them as they are.
        value_range: The stored values that become black and white; those beyond are cut. None for those of the type.
        label_maps: What the values stand for, if they are numbers of classes: then they are kept exactly.
    """

    mode: Literal["rgb", "grey"] | None = None
    value_range: tuple[float, float] | None = None
    label_maps: LabelMaps | None = None

    def kind(self, kind: Kind) -> Kind:
        """What an image of this kind becomes.

        Raises:
            BadImage: Its channels are neither those of grey nor of RGB.
        """
        if kind.vector or kind.labels:
            return kind
        if self.mode is not None:
            if kind.channels not in (1, 3):
                raise BadImage(f"is {kind.label}: --convert {self.mode} takes images of 1 or 3 channels")
            label, channels = ("RGB", 3) if self.mode == "rgb" else ("grey", 1)
            kind = kind._replace(label=f"{label} ({kind.dtype})", channels=channels)
        if self.value_range is None:
            return kind
        whole = self.stays_whole(kind)
        return (
            kind._replace(value_scale=self.value_range[1])
            if whole
            else kind._replace(value_scale=1.0, dtype="float32")
        )

    def stays_whole(self, kind: Kind) -> bool:
        """Whether the range only says which of the counts is white, so that they are kept as they are."""
        assert self.value_range is not None
        low, high = self.value_range
        return low == 0 and high <= np.iinfo(np.uint16).max and kind.dtype in ("uint8", "uint16")

    def pixels(self, stored: Kind, load: Callable[[], np.ndarray]) -> np.ndarray:
        """The image, (height, width, channels), or (dim,) for a vector.

        Args:
            stored: What it was before.
            load: Decodes it.

        Raises:
            BadImage: It holds NaN or infinite values, which no range has.
        """
        pixels = load()
        if stored.vector or stored.labels:
            return pixels
        if self.mode == "rgb" and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        elif self.mode == "grey" and pixels.shape[2] == 3:
            grey = (pixels @ LUMA)[:, :, None]
            pixels = (grey.round() if pixels.dtype.kind in "ui" else grey).astype(pixels.dtype)
        if self.value_range is None:
            return pixels
        if not np.isfinite(pixels).all():
            raise BadImage("holds NaN or infinite values: repair or remove it")
        low, high = self.value_range
        if self.stays_whole(stored):
            return pixels.clip(0, high).astype(stored.dtype)
        return ((pixels.astype(np.float64) - low) / (high - low)).clip(0, 1).astype(np.float32)


AS_STORED = Conversion()


def warn_of_dark(pixels: np.ndarray, kind: Kind, place: str) -> None:
    """Tell of images that use little of their range, as 12-bit counts in 16 bits do: their white is nearly black.

    Args:
        pixels: Some images, or all.
        kind: What they are.
        place: Where they are from, in words.
    """
    if kind.vector or kind.labels or not pixels.size or (largest := float(pixels.max())) > DARK * kind.value_scale:
        return
    whole = kind.dtype != "float32"
    white = 2 ** math.ceil(math.log2(largest + 1)) - 1 if whole and largest > 0 else largest
    logger.warning(
        "the largest value in %s is %g, where %g is white, so that networks see dark images; if %g is white, give "
        "--value_range 0 %g",
        *(place, largest, kind.value_scale, white, white),
    )
