"""Losses of generation under known pixels (Ruffino et al. 2020, Neurocomputing, arXiv 2002.01281)."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor

from ..checks import check_choice
from ..choices import ConstraintNoise
from ..errors import UserError
from .gan import at_least_float32


def check_constraints(samples: Tensor, values: Tensor, mask: Tensor) -> None:
    """Compare the shapes of samples, of known values and of the mask that says which are known.

    Raises:
        UserError: One line with all three.
    """
    expected = (len(samples), 1, *samples.shape[2:])
    if samples.ndim != 4 or values.shape != samples.shape or tuple(mask.shape) != expected:
        raise UserError(
            f"samples {tuple(samples.shape)}, values {tuple(values.shape)} and mask {tuple(mask.shape)} do not belong "
            "together, expected (batch, channels, height, width) twice and (batch, 1, height, width)"
        )


def constraint_loss(
    sample: Tensor,
    values: Tensor,
    mask: Tensor,
    noise: str = "gaussian",
    peak: float = 255.0,
    concentration: float = 100.0,
) -> Tensor:
    """-log p(y | x) of pixels that are known up to noise: its mean over the known entries of the whole batch.

    "gaussian" and "laplacian" leave out the scale and what does not depend on x: the squared error, ||y - M x||_F^2 /
    (number of known entries), and the absolute error. "poisson" and "beta" are whole, in nats: see `poisson_loss` and
    `beta_loss`, of (x + 1) / 2 and (y + 1) / 2.

    The thesis (chapter 2) has the Gaussian one, and names the others as future work. It prints the norm without
    dividing; its code divides, and its weights lambda are meant for that. The code takes an entry for known where the
    value is above 0; here the mask says so. It adds up the means of both samples of a pack, so that its lambda is half
    of one here.

    Args:
        sample: x, (batch, channels, height, width), in [-1, 1] for "poisson" and "beta".
        values: y, same shape; any finite values where nothing is known.
        mask: M, (batch, 1, height, width), 1 where all channels of a pixel are known, else 0; not all zero.
        noise: "gaussian", "laplacian", "poisson" or "beta".
        peak: Of "poisson".
        concentration: Of "beta".

    Returns:
        Scalar, float32 or better, in squared (absolute) units of the sample, or in nats.

    Raises:
        UserError: Unknown noise, a parameter that is not above 0, or shapes that do not belong together.
    """
    check_choice("noise", noise, get_args(ConstraintNoise))
    check_constraints(sample, values, mask)
    x = at_least_float32(sample)
    known = mask.expand_as(x).to(x)
    y = torch.where(known > 0, values.to(x), 0)  # no logarithm of what is not known
    if noise == "poisson":
        error = poisson_loss((x + 1) / 2, (y + 1) / 2, peak)
    elif noise == "beta":
        error = beta_loss((x + 1) / 2, (y + 1) / 2, concentration)
    else:
        error = (x - y).square() if noise == "gaussian" else (x - y).abs()
    return (error * known).sum() / known.sum()


def poisson_loss(image: Tensor, values: Tensor, peak: float) -> Tensor:
    """-log of the Poisson probability of counts, of which a white pixel has `peak` on average.

    With rate r = peak * image + 1/2 and count k = peak * values + 1/2: r - k log r + log Gamma(k + 1), also of k that
    is no whole number. The half, like a sensor's dark counts, makes black possible; the optimum of each entry stays at
    image = values.

    Args:
        image: Any shape, in [0, 1].
        values: Same shape, in [0, 1].
        peak: Above 0.

    Returns:
        Same shape, float32 or better, in nats.

    Raises:
        UserError: `peak` is not above 0.
    """
    if not peak > 0:
        raise UserError(f"peak must be above 0, got {peak}")
    rate, count = peak * at_least_float32(image) + 0.5, peak * at_least_float32(values) + 0.5
    return rate - count * rate.log() + torch.lgamma(count + 1)


def beta_loss(image: Tensor, values: Tensor, concentration: float) -> Tensor:
    """-log of the density of values that have a Beta distribution whose mean is the image.

    Beta(c m, c (1 - m)) of mean m and concentration c has the variance m (1 - m) / (c + 1). Neither it nor its
    logarithm exist at 0 and 1, which images have: both sides are first moved into the middles of 256 equal parts of
    (0, 1), x -> (255 x + 1/2) / 256 (Smithson & Verkuilen 2006, Psychological Methods 11, of n values).

    Args:
        image: Any shape, in [0, 1].
        values: Same shape, in [0, 1].
        concentration: c, above 0.

    Returns:
        Same shape, float32 or better, in nats; below 0 where the density is above 1.

    Raises:
        UserError: `concentration` is not above 0.
    """
    if not concentration > 0:
        raise UserError(f"concentration must be above 0, got {concentration}")
    mean, share = ((255 * at_least_float32(each) + 0.5) / 256 for each in (image, values))
    first, second = concentration * mean, concentration * (1 - mean)
    normaliser = torch.lgamma(first) + torch.lgamma(second) - math.lgamma(concentration)
    return normaliser - (first - 1) * share.log() - (second - 1) * torch.log1p(-share)


def sample_mask(uniform: Tensor, share: float) -> Tensor:
    """A mask with round(share * height * width) known pixels in each image, at least one, all sets equally likely.

    The thesis' code draws rows and columns with replacement, so that it knows fewer pixels than it says, and of colour
    images three times as many. Here a pixel is known in all its channels, and none is drawn twice.

    Args:
        uniform: (batch, 1, height, width), independent and of one continuous distribution.
        share: Of the pixels, above 0 and at most 1.

    Returns:
        Same shape and type, 1 where a pixel is known, else 0.

    Raises:
        UserError: `share` is impossible, or the numbers have another shape.
    """
    if not 0 < share <= 1:
        raise UserError(f"the share of known pixels must be above 0 and at most 1, got {share}")
    if uniform.ndim != 4 or uniform.shape[1] != 1:
        raise UserError(f"a mask is made of (batch, 1, height, width) numbers, got {tuple(uniform.shape)}")
    flat = uniform.flatten(1)
    chosen = flat.topk(max(1, round(share * flat.shape[1])), dim=1).indices
    return torch.zeros_like(flat).scatter_(1, chosen, 1).view_as(uniform)
