"""Sizes of images: the smallest that covers a resolution, resizing to it, and the middle that is cut out."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

ResizeMode = Literal["cover", "stretch"]

# A JPEG decoded at reduced size is at least this many times as large as what is made of it, as in `Image.thumbnail`.
# Photographs then differ from those decoded whole by 0.7 to 1 grey levels of 255 (RMS), half as much at 4 times.
REDUCING_GAP = 2

LANCZOS = Image.Resampling.LANCZOS


def resized_shape(height: int, width: int, resolution: tuple[int, int], mode: ResizeMode = "cover") -> tuple[int, int]:
    """Height and width that an image gets.

    Of "cover" those of the smallest image of the same proportions that covers `resolution`, (height, width); of
    "stretch" they are `resolution`, whatever becomes of the proportions.
    """
    if mode == "stretch":
        return resolution
    scale = max(resolution[0] / height, resolution[1] / width)
    return max(resolution[0], round(height * scale)), max(resolution[1], round(width * scale))


def central_shape(height: int, width: int, fraction: float) -> tuple[int, int]:
    """Height and width of the middle that is kept of an image: this share of both, at least a pixel."""
    return max(1, round(fraction * height)), max(1, round(fraction * width))


def reduction(height: int, width: int, resolution: tuple[int, int], mode: ResizeMode = "cover") -> int:
    """By how much an image may be reduced as it is decoded, to be resized from there: 8, 4, 2 or 1."""
    target_height, target_width = resized_shape(height, width, resolution, mode)
    gap = min(height // target_height, width // target_width) // REDUCING_GAP
    return max((reduce for reduce in (2, 4, 8) if reduce <= gap), default=1)


def resize(
    pixels: np.ndarray, resolution: tuple[int, int], value_scale: float, mode: ResizeMode = "cover"
) -> np.ndarray:
    """Resizes to `resized_shape`, with Pillow's Lanczos filter; unchanged if it is that.

    8-bit images are resized as such. Others are resized in float32, so 16-bit values keep their precision; the
    filter's overshoot is cut to `[0, value_scale]`.

    Args:
        pixels: `(height, width, channels)`.
        resolution: (height, width) to be covered.
        value_scale: The value that means white.
        mode: See `resized_shape`.
    """
    height, width = pixels.shape[:2]
    return resize_to(pixels, resized_shape(height, width, resolution, mode), (height, width), value_scale)


def resize_to(
    pixels: np.ndarray, shape: tuple[int, int], extent: tuple[float, float], value_scale: float
) -> np.ndarray:
    """Makes `shape` of the upper left of an image, whose height and width may end within a pixel; see `resize`.

    Args:
        pixels: `(height, width, channels)`.
        shape: (height, width) of the result.
        extent: Height and width of the part of `pixels` that becomes it.
        value_scale: The value that means white.
    """
    if pixels.shape[:2] == shape == extent:
        return pixels
    size, box = shape[::-1], (0, 0, extent[1], extent[0])
    if pixels.dtype == np.uint8 and value_scale == 255:
        if pixels.shape[2] == 3:
            return np.asarray(Image.fromarray(pixels).resize(size, LANCZOS, box))
        planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(pixels, 2, 0)]
        return np.stack([np.asarray(Image.fromarray(plane).resize(size, LANCZOS, box)) for plane in planes], axis=2)
    planes = [np.ascontiguousarray(plane, dtype=np.float32) for plane in np.moveaxis(pixels, 2, 0)]
    result = np.stack([np.asarray(Image.fromarray(plane).resize(size, LANCZOS, box)) for plane in planes], axis=2)
    result = result.clip(0, value_scale)
    return (result.round() if pixels.dtype.kind == "u" else result).astype(pixels.dtype)


def middle(pixels: np.ndarray, fraction: float) -> np.ndarray:
    """The middle of `(height, width, channels)`: this share of both sides."""
    return center(pixels, central_shape(pixels.shape[0], pixels.shape[1], fraction))


def center(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The central (height, width) of `(height, width, channels)`."""
    top, left = ((side - wanted) // 2 for side, wanted in zip(pixels.shape[:2], size, strict=True))
    return pixels[top : top + size[0], left : left + size[1]]
