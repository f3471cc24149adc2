"""Reconstruction errors."""

from __future__ import annotations

from torch import Tensor


def mean_squared_error(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Mean squared error of each sample, (batch,): of images on the [0, 1] scale, of vectors as they are.

    Args:
        reconstruction: (batch, channels, height, width) in [-1, 1], or (batch, dim).
        image: Same shape.
    """
    error = (reconstruction.float() - image.float()).square().flatten(1).mean(1)
    return error / 4 if image.ndim == 4 else error


def squared_error_map(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Squared error at each place, mean over the channels: its mean is `mean_squared_error`.

    Args:
        reconstruction: (batch, channels, height, width) in [-1, 1], or (batch, dim).
        image: Same shape.

    Returns:
        (batch, height, width) on the [0, 1] scale, or (batch, dim).
    """
    error = (reconstruction.float() - image.float()).square()
    return error.mean(1) / 4 if image.ndim == 4 else error


def clamped_squared_error(reconstruction: Tensor, image: Tensor) -> Tensor:
    """`mean_squared_error` of what pipelines return: images clamped to [-1, 1], vectors as they are.

    Args:
        reconstruction: (batch, channels, height, width), or (batch, dim).
        image: Same shape.
    """
    return mean_squared_error(reconstruction.clamp(-1, 1) if image.ndim == 4 else reconstruction, image)
