"""Maximum mean discrepancy of two samples under a mixture of Gaussian kernels (Gretton et al. 2012)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UserError
from .gan import at_least_float32


def mixture_kernel(one: Tensor, other: Tensor, bandwidths: Sequence[float]) -> Tensor:
    """Sum over s of exp(-d / (2 s^2)), d the mean squared difference of two samples' entries.

    Args:
        one: (n, ...).
        other: (m, ...), samples of the same shape.
        bandwidths: The s, root mean square differences: the same in any number of dimensions.

    Returns:
        (n, m).
    """
    one, other = at_least_float32(one).flatten(1), at_least_float32(other).flatten(1)
    # by products of matrices small distances would be rounding
    distances = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square() / one.shape[1]
    return torch.stack([torch.exp(-distances / (2 * width**2)) for width in bandwidths]).sum(0)


def mmd_loss(real: Tensor, fake: Tensor, bandwidths: Sequence[float]) -> Tensor:
    """The squared discrepancy, E k(x, x') - 2 E k(x, y) + E k(y, y'), without bias (Gretton et al. 2012, eq. 3).

    A generator that minimises it is a generative moment matching network (Li, Swersky & Zemel 2015, arXiv 1502.02761):
    they take the biased estimate (eq. 3 there), and of it the square root, which this one, negative at times, has not.

    Args:
        real: (n, ...), data.
        fake: (m, ...), generated samples.
        bandwidths: See `mixture_kernel`.

    Returns:
        Scalar, in float32 or better.

    Raises:
        UserError: There are fewer than two of either, or their shapes differ.
    """
    if min(len(real), len(fake)) < 2 or real.shape[1:] != fake.shape[1:]:
        raise UserError(
            f"mmd_loss needs two samples or more of each and of one shape, got {tuple(real.shape)} and "
            f"{tuple(fake.shape)}; use a larger batch"
        )
    between = mixture_kernel(real, fake, bandwidths).mean()
    return (
        mean_of_pairs(mixture_kernel(real, real, bandwidths))
        - 2 * between
        + mean_of_pairs(mixture_kernel(fake, fake, bandwidths))
    )


def mean_of_pairs(kernel: Tensor) -> Tensor:
    """The mean of a square matrix without its diagonal."""
    return (kernel.sum() - kernel.diagonal().sum()) / (len(kernel) * (len(kernel) - 1))
