"""How far images are from admissible ones, and their polarisation from that of a reference; see `losses.polarimetry`.

One number for each image, in float64. C1, C2 and C3 as in C. Ruffino's thesis, chapter 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UserError
from ..losses.polarimetry import (
    angle_of_linear_polarization,
    check_channels,
    degree_of_linear_polarization,
    intensities_from_stokes,
    stokes_vector,
)

TOLERANCE = 1e-6


class Spread(NamedTuple):
    """Mean, standard deviation (of the images themselves, not an estimate from them) and median over images."""

    mean: float
    std: float
    median: float


def c1_residual(intensities: Tensor, calibration: Tensor, inverse: Tensor) -> Tensor:
    """C1 of each image, ||y - A B y|| / (||y|| + ||A B y||), with norms over all pixels and channels.

    Args:
        intensities: y, (batch, 4, height, width), in any unit.
        calibration: A, (4, 3).
        inverse: B, (3, 4).

    Returns:
        (batch,), in [0, 1]; 0 for a black image.
    """
    check_channels(intensities, 4, "intensities")
    y = intensities.double()
    measurable = intensities_from_stokes(stokes_vector(y, inverse), calibration)
    difference, size, other = (image.flatten(1).norm(dim=1) for image in (y - measurable, y, measurable))
    return difference / (size + other).clamp(min=torch.finfo(torch.float64).tiny)


def c2_violation_rate(intensities: Tensor, inverse: Tensor, *, scale: float = 1.0) -> Tensor:
    """Share of the pixels of each image that violate C2, S0^2 >= S1^2 + S2^2.

    A violation is ||(S1, S2)|| - |S0| above 1e-6 of the scale, which leaves room for the rounding of float32.

    Args:
        intensities: (batch, 4, height, width).
        inverse: B, (3, 4).
        scale: The largest value an intensity can have.

    Returns:
        (batch,), in [0, 1].
    """
    s0, s1, s2 = stokes_vector(intensities.double(), inverse).unbind(dim=1)
    return (torch.hypot(s1, s2) - s0.abs() > TOLERANCE * scale).double().mean(dim=(1, 2))


def c3_violation_rate(intensities: Tensor, inverse: Tensor, *, scale: float = 1.0) -> Tensor:
    """Share of the pixels of each image with S0 below -1e-6 of the scale; black, S0 = 0, is no violation here.

    Args:
        intensities: (batch, 4, height, width).
        inverse: B, (3, 4).
        scale: The largest value an intensity can have.

    Returns:
        (batch,), in [0, 1].
    """
    return (stokes_vector(intensities.double(), inverse)[:, 0] < -TOLERANCE * scale).double().mean(dim=(1, 2))


def mean_std_median(values: Tensor) -> Spread:
    """Mean, standard deviation and median of (number,) values; of an even number the two middle ones are averaged."""
    values = values.double()
    return Spread(values.mean().item(), values.std(correction=0).item(), values.quantile(0.5).item())


def _check_pair(stokes: Tensor, reference: Tensor) -> None:
    check_channels(stokes, 3, "Stokes vectors")
    if stokes.shape != reference.shape:
        raise UserError(
            f"Stokes vectors have shape {tuple(stokes.shape)}, those of the reference {tuple(reference.shape)}"
        )


def angle_error(stokes: Tensor, reference: Tensor, *, threshold: float = 0.1) -> Tensor:
    """Mean absolute error of the angle of polarisation of each image, around the circle of 180 degrees.

    Only pixels whose reference is polarised by `threshold` or more count: in the others the angle means nothing.

    Args:
        stokes: (batch, 3, height, width). A pixel that is not polarised at all counts with the angle 0.
        reference: The same shape.
        threshold: Least degree of polarisation of the reference.

    Returns:
        (batch,), degrees in [0, 90]; NaN for an image whose reference has no such pixel.
    """
    _check_pair(stokes, reference)
    found, true = (angle_of_linear_polarization(image.double()) for image in (stokes, reference))
    apart = (found - true).abs()
    error = torch.minimum(apart, math.pi - apart).rad2deg().flatten(1)
    counted = (degree_of_linear_polarization(reference.double()) >= threshold).flatten(1)
    return (error * counted).sum(dim=1) / counted.sum(dim=1)


def dolp_error(stokes: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error of the degree of linear polarisation of each image.

    Args:
        stokes: (batch, 3, height, width). Degrees above 1, of pixels that violate C2, count as 1.
        reference: The same shape.

    Returns:
        (batch,), in [0, 1].
    """
    _check_pair(stokes, reference)
    found, true = (degree_of_linear_polarization(image.double()).clamp(max=1) for image in (stokes, reference))
    return (found - true).abs().mean(dim=(1, 2, 3))
