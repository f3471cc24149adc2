"""Sizes of images: one number where height and width are equal, else (height, width), as in diffusers' UNet2DModel."""

from __future__ import annotations

from .errors import UserError

# What a configuration has as `sample_size`; JSON makes a list of a tuple.
SampleSize = int | list[int] | tuple[int, int]


def height_width(size: SampleSize, name: str = "sample_size") -> tuple[int, int]:
    """Height and width of a size.

    Args:
        size: One number, or both.
        name: What the message calls it.

    Raises:
        UserError: It is neither one positive number nor two.
    """
    pair = size if isinstance(size, (list, tuple)) else (size, size)
    if [type(side) for side in pair] != [int, int] or min(pair) < 1:
        given = " ".join(map(str, pair)) if name.startswith("--") and pair is size else repr(size)
        raise UserError(f"{name} {given} is neither a positive whole number nor two of them, height and width")
    height, width = pair
    return height, width


def as_sample_size(height: int, width: int) -> int | tuple[int, int]:
    """What a configuration has: one number for a square."""
    return height if height == width else (height, width)


def sample_shape(channels: int, sample_size: SampleSize | None) -> tuple[int, ...]:
    """Shape of one sample: (channels, height, width), or (channels,) for vectors, whose `sample_size` is None."""
    return (channels,) if sample_size is None else (channels, *height_width(sample_size))


def in_words(sample_size: SampleSize) -> str:
    """A size for a message: "64", or "64x128" for height 64 and width 128."""
    height, width = height_width(sample_size)
    return str(height) if height == width else f"{height}x{width}"


def as_option(height: int, width: int) -> str:
    """A size as `--resolution` takes it: "64", or "64 128"."""
    return str(height) if height == width else f"{height} {width}"
