"""Losses of generation under known pixels (Ruffino et al. 2020, Neurocomputing, arXiv 2002.01281)."""

from __future__ import annotations

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


def constraint_loss(sample: Tensor, values: Tensor, mask: Tensor, noise: str = "gaussian") -> Tensor:
    """-log p(y | x) of pixels that are known up to noise, but for its scale: their mean error over the whole batch.

    The squared error for Gaussian noise, ||y - M x||_F^2 / (number of known entries); the absolute error for Laplacian
    noise. The thesis (chapter 2) prints the norm without dividing; its code divides, and its weights lambda are
    meant for that. The code takes an entry for known where the value is above 0; here the mask says so. It adds up the
    means of both samples of a pack, so that its lambda is half of one here.

    Args:
        sample: x, (batch, channels, height, width).
        values: y, same shape; any finite values where nothing is known.
        mask: M, (batch, 1, height, width), 1 where all channels of a pixel are known, else 0; not all zero.
        noise: "gaussian" or "laplacian".

    Returns:
        Scalar, float32 or better, in squared (absolute) units of the sample.

    Raises:
        UserError: Unknown noise, or shapes that do not belong together.
    """
    check_choice("noise", noise, get_args(ConstraintNoise))
    check_constraints(sample, values, mask)
    difference = at_least_float32(sample) - values
    error = difference.square() if noise == "gaussian" else difference.abs()
    known = mask.expand_as(error).to(error)
    return (error * known).sum() / known.sum()


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
