"""Grey levels <-> continuous values, and what a density over the latter says of the former.

An image whose pixels are one of `num_levels` grey levels becomes continuous by uniform noise inside its level; the
density of the result, averaged over the noise, is a lower bound of the image's probability (Theis et al. 2016, arXiv
1511.01844, section 3.1; Uria et al. 2013, arXiv 1306.0186).
"""

from __future__ import annotations

import math

from torch import Tensor

from ..errors import UserError


def check_range(sample: Tensor) -> None:
    """Refuse images that no grey level stands for. On a GPU this waits for the values.

    Raises:
        UserError: Values outside [-1, 1].
    """
    if not (sample.min() >= -1 and sample.max() <= 1):
        raise UserError(f"images must lie in [-1, 1], got [{sample.min():.4g}, {sample.max():.4g}]")


def dequantize(sample: Tensor, noise: Tensor, num_levels: int) -> Tensor:
    """(k + noise) / num_levels - 1/2 in [-1/2, 1/2), for grey level k = 0 .. num_levels - 1.

    Args:
        sample: (batch, channels, height, width) in [-1, 1] (see `check_range`); level k is 2 k / (num_levels - 1) - 1,
            and values between levels are rounded.
        noise: Same shape, in [0, 1); 1/2 gives the middle of each level.
        num_levels: 256 for 8-bit images.
    """
    level = ((sample.float() + 1) / 2 * (num_levels - 1)).round()
    return (level + noise) / num_levels - 0.5


def quantize(continuous: Tensor, num_levels: int) -> Tensor:
    """The level that holds each value, in [-1, 1]; values outside [-1/2, 1/2) go to the nearest level."""
    level = ((continuous.float() + 0.5) * num_levels).floor().clamp(0, num_levels - 1)
    return level / (num_levels - 1) * 2 - 1


def discrete_log_likelihood(log_density: Tensor, dim: int, num_levels: int) -> Tensor:
    """Lower bound of log P(image) in nats, from the log-density of a dequantised image (its levels have width 1/n).

    Args:
        log_density: (batch,) nats.
        dim: Numbers in one image.
        num_levels: As for `dequantize`.
    """
    return log_density - dim * math.log(num_levels)


def bits_per_dim(log_likelihood: Tensor, dim: int) -> Tensor:
    """-log2 P / dim, from nats; for continuous data, of a density."""
    return -log_likelihood / (dim * math.log(2))
