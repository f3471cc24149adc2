"""Linear polarisation: Stokes vectors, and how far four measured intensities are from any light that exists.

A camera with polarisers at 0, 45, 90 and 135 degrees measures, in each pixel, y = (I0, I45, I90, I135) = A S, where
S = (S0, S1, S2) is the Stokes vector: S0 the intensity of the light, (S1, S2) its linearly polarised part, 0 degrees
horizontal and angles counted counter-clockwise. The rows of A are 1/2 (1, cos 2a, sin 2a) for an ideal camera. Four
numbers are such a measurement if and only if

C1  y lies in the range of A; for the ideal A this says I0 + I90 = I45 + I135
C2  S0^2 >= S1^2 + S2^2: no more light is polarised than there is
C3  S0 >= 0; darkness, S0 = 0, is admissible

Images are `(batch, 4, height, width)` in the order I0, I45, I90, I135, in any unit of intensity; S has the same unit.
Everything is computed in float32 or better, also under autocast: in bfloat16 nothing would be admissible.

Sources: C. Ruffino, PhD thesis, chapter 3; R. Blin, C. Ruffino et al., CVIU 2022 (polarimetric CycleGAN). Where its
published code differs, this follows the text: channels are not mixed with pixels in C1, and the projection changes the
pixels that violate C2, not those that satisfy it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UserError
from .gan import at_least_float32

LEFT_INVERSES = ("authors", "orthogonal")

# added to S0 in [0, 2] before something is divided by it: below, sensors and 8 bits tell little about polarisation
DARK = 0.02


def calibration_matrix() -> Tensor:
    """A of the ideal camera, (4, 3) float32: 1/2 (1, cos 2a, sin 2a) for a = 0, 45, 90 and 135 degrees."""
    return torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, -1.0, 0.0], [1.0, 0.0, -1.0]]) / 2


def camera_matrix(calibration: Sequence[Sequence[float]] | None) -> Tensor:
    """A, (4, 3) float32, as it was given; an ideal camera's where none was.

    Args:
        calibration: The rows of I0, I45, I90 and I135, in the columns of S0, S1 and S2.

    Raises:
        UserError: These are no four rows of three finite numbers.
    """
    if calibration is None:
        return calibration_matrix()
    try:
        matrix = torch.tensor(calibration, dtype=torch.float32)
    except (TypeError, ValueError):  # rows of several lengths, or what is no number
        matrix = torch.empty(0)
    if matrix.shape != (4, 3):
        raise UserError(
            f"calibration must be four rows (I0, I45, I90, I135) of three numbers (S0, S1, S2), got {calibration}"
        )
    if not matrix.isfinite().all():
        raise UserError("the calibration matrix holds numbers that are not finite")
    return matrix


def left_inverse(calibration: Tensor, kind: str = "authors") -> Tensor:
    """A matrix B with B A = I, (3, 4), which turns intensities into Stokes vectors.

    "authors" is the one of the thesis, S = (I0 + I90, I0 - I90, I45 - I135), for the ideal camera alone. "orthogonal"
    is the Moore-Penrose inverse (A^T A)^-1 A^T, the least-squares estimate, whose S0 is half the sum of all four. The
    thesis calls the first one Moore-Penrose too; the two agree on what C1 allows and differ beside it.

    Args:
        calibration: A, (4, 3), of rank 3.
        kind: "authors" or "orthogonal".

    Returns:
        B, with the precision of A.

    Raises:
        UserError: There is no such kind, A has another shape or rank, or "authors" is asked of a camera not ideal.
    """
    if kind not in LEFT_INVERSES:
        raise UserError(f"there is no left inverse {kind!r}: choose one of {', '.join(LEFT_INVERSES)}")
    if calibration.shape != (4, 3):
        raise UserError(f"the calibration matrix has shape {tuple(calibration.shape)}, expected (4, 3)")
    if not calibration.isfinite().all():
        raise UserError("the calibration matrix holds numbers that are not finite")
    if kind == "authors":
        if not torch.allclose(calibration.double(), calibration_matrix().to(calibration.device, torch.float64)):
            raise UserError(
                'the left inverse "authors" belongs to the ideal calibration matrix; choose "orthogonal" for another'
            )
        rows = [[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]
        return torch.tensor(rows, dtype=calibration.dtype, device=calibration.device)
    if torch.linalg.matrix_rank(calibration.double()) < 3:
        raise UserError("the calibration matrix has no left inverse: its columns are not independent")
    return torch.linalg.pinv(calibration.double()).to(calibration.dtype)


def check_passes_no_more_than_there_is(calibration: Tensor, needed_by: str) -> None:
    """Refuse an A that makes negative intensities of admissible Stokes vectors: ||(a1, a2)|| > a0 in some row.

    An ideal camera's has equality; one fitted to noisy measurements may not pass, and `project_intensities` can then
    give negative numbers.

    Args:
        calibration: A, (4, 3).
        needed_by: What asks for such an A, for the message.

    Raises:
        UserError: One line.
    """
    rows = calibration.double()
    if not (rows[:, 1:].norm(dim=1) <= rows[:, 0] + 1e-6).all():
        raise UserError(
            f"{needed_by} needs a calibration whose rows have ||(a1, a2)|| <= a0: this one makes negative "
            "intensities of possible light"
        )


def same_camera(one: Sequence[Sequence[float]] | None, other: Sequence[Sequence[float]] | None) -> bool:
    """Whether two calibrations, four rows of three numbers or None for an ideal camera's, are equal in float32.

    Raises:
        UserError: As of `camera_matrix`.
    """
    return torch.equal(camera_matrix(one), camera_matrix(other))


def check_channels(images: Tensor, channels: int, name: str) -> None:
    """Raise a `UserError` unless `images` is (batch, channels, height, width)."""
    if images.ndim != 4 or images.shape[1] != channels:
        raise UserError(
            f"{name} have shape {tuple(images.shape)}, expected (batch, {channels}, height, width)"
            + (" in the order I0, I45, I90, I135" if channels == 4 else "")
        )


def _apply(matrix: Tensor, images: Tensor) -> Tensor:
    """The matrix times the channels of every pixel.

    By multiplying and adding: autocast and TF32 would round the operands of a matrix product.
    """
    images = at_least_float32(images)
    return (matrix.to(images)[None, :, :, None, None] * images[:, None]).sum(dim=2)


def to_intensities(sample: Tensor, scale: float = 255.0) -> Tensor:
    """Images in [-1, 1] as intensities in [0, scale]; 255 is the unit in which the thesis weighs C1 and C2."""
    return (at_least_float32(sample) + 1) * (scale / 2)


def stokes_vector(intensities: Tensor, inverse: Tensor) -> Tensor:
    """S = B y of every pixel.

    Args:
        intensities: y, (batch, 4, height, width).
        inverse: B, (3, 4), from `left_inverse`.

    Returns:
        (batch, 3, height, width), in the unit of the intensities.

    Raises:
        UserError: There are not four channels.
    """
    check_channels(intensities, 4, "intensities")
    return _apply(inverse, intensities)


def intensities_from_stokes(stokes: Tensor, calibration: Tensor) -> Tensor:
    """Intensities y = A S of every pixel, (batch, 4, height, width).

    Args:
        stokes: S, (batch, 3, height, width).
        calibration: A, (4, 3).

    Raises:
        UserError: There are not three channels.
    """
    check_channels(stokes, 3, "Stokes vectors")
    return _apply(calibration, stokes)


def _polarised(stokes: Tensor) -> tuple[Tensor, Tensor]:
    """S0 and ||(S1, S2)||, (batch, 1, height, width) each; the derivative of the norm is taken as 0 at 0."""
    check_channels(stokes, 3, "Stokes vectors")
    stokes = at_least_float32(stokes)
    return stokes[:, :1], torch.linalg.vector_norm(stokes[:, 1:], dim=1, keepdim=True)


def degree_of_linear_polarization(stokes: Tensor, eps: float = 1e-8) -> Tensor:
    """DoLP = ||(S1, S2)|| / S0, the polarised share of the light.

    Args:
        stokes: (batch, 3, height, width).
        eps: The least value of S0, in its unit, that is divided by.

    Returns:
        (batch, 1, height, width), in [0, inf): above 1 where C2 is violated, 0 where nothing is polarised.
    """
    intensity, polarised = _polarised(stokes)
    return polarised / intensity.clamp(min=eps)


def angle_of_linear_polarization(stokes: Tensor) -> Tensor:
    """AoLP = 1/2 atan2(S2, S1), the direction in which the light oscillates.

    Args:
        stokes: (batch, 3, height, width).

    Returns:
        (batch, 1, height, width), radians in [-pi/2, pi/2], counter-clockwise from the horizontal; the two ends are
        the same direction. Where nothing is polarised the angle and its derivatives are 0.
    """
    check_channels(stokes, 3, "Stokes vectors")
    s1, s2 = at_least_float32(stokes)[:, 1:].split(1, dim=1)
    # Below this the reciprocal in the derivative of atan2 would be infinite.
    unpolarised = s1.square() + s2.square() < torch.finfo(s1.dtype).tiny
    return torch.atan2(s2.masked_fill(unpolarised, 0), s1.masked_fill(unpolarised, 1)) / 2


def calibration_residual(
    intensities: Tensor, calibration: Tensor, inverse: Tensor, *, squared: bool = False
) -> Tensor:
    """C1 of each image: the mean over its pixels of ||y - A B y||_2.

    With the ideal A and d = I0 - I45 + I90 - I135 the norm of a pixel is |d| / sqrt(2) for "authors", |d| / 2 for
    "orthogonal".

    Args:
        intensities: y, (batch, 4, height, width).
        calibration: A, (4, 3).
        inverse: B, (3, 4).
        squared: Take the squared norms, as the algorithm box of the thesis does where its text does not.

    Returns:
        (batch,), in the unit of the intensities, or its square; at least 0. The derivative of the norm is taken as 0
        at 0.
    """
    stokes = stokes_vector(intensities, inverse)
    difference = at_least_float32(intensities) - intensities_from_stokes(stokes, calibration)
    if squared:
        return difference.square().sum(dim=1).mean(dim=(1, 2))
    return torch.linalg.vector_norm(difference, dim=1).mean(dim=(1, 2))


def cone_violation(stokes: Tensor) -> Tensor:
    """C2 of each pixel: max(S1^2 + S2^2 - S0^2, 0).

    Args:
        stokes: (batch, 3, height, width).

    Returns:
        (batch, 1, height, width), in squared units of intensity: up to 6.5e4 for intensities in [0, 255]. A negative
        S0 counts like a positive one.
    """
    check_channels(stokes, 3, "Stokes vectors")
    s0, s1, s2 = at_least_float32(stokes).square().split(1, dim=1)
    return (s1 + s2 - s0).clamp(min=0)


def calibration_loss(intensities: Tensor, calibration: Tensor, inverse: Tensor, *, squared: bool = False) -> Tensor:
    """L_C1, the batch mean of `calibration_residual`, a scalar.

    Nothing is rescaled: for the weights of the thesis (1 for both) give intensities in [0, 255] (`to_intensities`).
    """
    return calibration_residual(intensities, calibration, inverse, squared=squared).mean()


def cone_loss(intensities: Tensor, inverse: Tensor) -> Tensor:
    """L_C2, the mean of `cone_violation` over batch and pixels, a scalar.

    Nothing is rescaled: for the weights of the thesis (1 for both) give intensities in [0, 255] (`to_intensities`).
    """
    return cone_violation(stokes_vector(intensities, inverse)).mean()


def proximal_cone_loss(intensities: Tensor, inverse: Tensor) -> Tensor:
    """The mean over batch and pixels of 1/2 ||S - Pi(S)||^2, S = B y, a scalar: half the squared way to the cone.

    By the envelope theorem its gradient is S - Pi(S), what is had with Pi(S) as a constant (thesis, section 3.2): the
    shortest way to admissible light, where that of `cone_loss` grows with the intensities themselves. Nothing is
    rescaled, as there.

    Args:
        intensities: y, (batch, 4, height, width).
        inverse: B, (3, 4).
    """
    stokes = stokes_vector(intensities, inverse)
    return (stokes - project_onto_cone(stokes.detach())).square().sum(dim=1).mean() / 2


def normalised_stokes(intensities: Tensor, inverse: Tensor) -> Tensor:
    """What a camera's angles say, each quantity by itself: brightness, and the polarised share along two directions.

    Args:
        intensities: y, (batch, 4, height, width) in [0, 1].
        inverse: B, (3, 4).

    Returns:
        (batch, 3, height, width): S0 - 1, S1 / S0 and S2 / S0, the latter of S0 + `DARK`; in [-1, 1] where y is
        admissible.
    """
    intensity, *polarised = stokes_vector(intensities, inverse).split(1, dim=1)
    return torch.cat([intensity - 1, *(part / (intensity.clamp(min=0) + DARK) for part in polarised)], dim=1)


def project_onto_cone(stokes: Tensor) -> Tensor:
    """The nearest Stokes vector that satisfies C2 with S0 >= 0, in each pixel.

    With s = (S1, S2): S itself where ||s|| <= S0; 0 where ||s|| <= -S0, a case the thesis leaves out; elsewhere
    1/2 (1 + S0 / ||s||) (||s||, s). The gradient of 1/2 ||S - Pi(S)||^2 is S - Pi(S).

    Args:
        stokes: (batch, 3, height, width).

    Returns:
        The same shape; differentiable.
    """
    intensity, polarised = _polarised(stokes)
    stokes = at_least_float32(stokes)
    inside, behind = polarised <= intensity, polarised <= -intensity
    share = (intensity / polarised.masked_fill(inside | behind, 1) + 1) / 2
    boundary = share * torch.cat([polarised, stokes[:, 1:]], dim=1)
    return torch.where(inside, stokes, boundary.masked_fill(behind, 0))


def project_intensities(
    intensities: Tensor, calibration: Tensor, inverse: Tensor, *, maximum: float | None = None
) -> Tensor:
    """A Pi(B y): intensities that satisfy C1, C2 and S0 >= 0 up to rounding.

    They lie in the range of A, which is C1, and B A Pi(B y) = Pi(B y) lies in the cone. For the ideal A none is
    negative: entry k is 1/2 (S0 + <u_k, s>) with a unit vector u_k, at least 1/2 (S0 - ||s||) >= 0. There is no such
    bound above: (1, 1, 1, 0) becomes (1, 1.5, 1, 0.5) with "authors". Cutting single entries off would undo C1, hence
    `maximum`.

    Args:
        intensities: y, (batch, 4, height, width).
        calibration: A, (4, 3).
        inverse: B, (3, 4).
        maximum: Above 0. A pixel with an entry beyond it is dimmed as a whole, S by one factor, which C1 and C2 allow.

    Returns:
        The same shape and unit; differentiable.
    """
    projected = intensities_from_stokes(project_onto_cone(stokes_vector(intensities, inverse)), calibration)
    if maximum is None:
        return projected
    return projected * (maximum / projected.amax(dim=1, keepdim=True).clamp(min=maximum))
