"""Captures of cameras with a polariser on every pixel (division of focal plane), and which of them can be used.

Images are arrays `(4, height, width)` in the order I0, I45, I90, I135, in the counts of the sensor.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError

ANGLES = (0, 45, 90, 135)
Layout = tuple[tuple[int, int], tuple[int, int]]
# Sony's IMX250MZR: rows of a 2x2 block of pixels, 0 degrees being horizontal.
SONY: Layout = ((90, 45), (135, 0))


def _places(layout: Layout) -> list[tuple[int, int]]:
    """Row and column in the 2x2 block of each angle."""
    places = {layout[row][column]: (row, column) for row in range(2) for column in range(2)}
    if set(places) != set(ANGLES):
        raise UserError(f"the mosaic's layout {layout} must name each of the angles 0, 45, 90 and 135 once")
    return [places[angle] for angle in ANGLES]


def _check(intensities: np.ndarray) -> None:
    if intensities.ndim != 3 or len(intensities) != 4:
        raise UserError(f"the intensities have shape {intensities.shape}, expected (4, height, width)")


def split_mosaic(raw: np.ndarray, layout: Layout = SONY) -> np.ndarray:
    """Takes a raw image apart, without interpolation: neighbouring angles are seen from half a pixel away.

    Args:
        raw: `(height, width)` uint8 or uint16, both even.
        layout: The angles of the top left 2x2 pixels.

    Returns:
        `(4, height / 2, width / 2)`, of the same type.

    Raises:
        UserError: The image has another shape or type, or an angle is missing from the layout.
    """
    if raw.dtype not in (np.uint8, np.uint16):
        raise UserError(f"a raw mosaic holds uint8 or uint16, this one {raw.dtype}")
    if raw.ndim != 2 or raw.shape[0] % 2 or raw.shape[1] % 2:
        raise UserError(f"a raw mosaic is (height, width), both even; this one has shape {raw.shape}")
    return np.stack([raw[row::2, column::2] for row, column in _places(layout)])


def join_mosaic(intensities: np.ndarray, layout: Layout = SONY) -> np.ndarray:
    """The raw image that `split_mosaic` takes apart into these.

    Args:
        intensities: `(4, height, width)`.
        layout: The angles of the top left 2x2 pixels.

    Returns:
        `(2 height, 2 width)`, of the same type.

    Raises:
        UserError: There are not four images, or an angle is missing from the layout.
    """
    _check(intensities)
    _, height, width = intensities.shape
    raw = np.empty((2 * height, 2 * width), dtype=intensities.dtype)
    for image, (row, column) in zip(intensities, _places(layout), strict=True):
        raw[row::2, column::2] = image
    return raw


def saturated_share(intensities: np.ndarray, saturation: float) -> float:
    """Share of the pixels, in [0, 1], of which at least one of the four counts is `saturation` or more."""
    _check(intensities)
    return float((intensities >= saturation).any(axis=0).mean())


def inadmissibility(intensities: np.ndarray) -> float:
    """||max(DoLP - 1, 0)||_F / (number of pixels), at least 0, with DoLP = sqrt(S1^2 + S2^2) / (S0 + 1e-5).

    The statistic by which R. Blin, C. Ruffino et al. (CVIU 2022, published code) choose captures, S0 being I0 + I90.
    Its size is that of the few worst pixels: it is large only where a pixel is dark at 0 and 90 degrees and not at
    the other two.
    """
    _check(intensities)
    i0, i45, i90, i135 = intensities.astype(np.float64)
    degree = np.hypot(i0 - i90, i45 - i135) / (i0 + i90 + 1e-5)
    return float(np.linalg.norm(np.maximum(degree - 1, 0)) / degree.size)


def usable(intensities: np.ndarray, *, saturation: float, threshold: float = 0.5, max_saturated: float = 0.01) -> bool:
    """Whether a capture, or a patch of one, is fit for training.

    Args:
        intensities: `(4, height, width)`, in counts.
        saturation: The largest count, 255 for 8 bits.
        threshold: `inadmissibility` must be below it; 0.5 is the published value.
        max_saturated: `saturated_share` must not be above it.

    Raises:
        UserError: There are not four images.
    """
    return saturated_share(intensities, saturation) <= max_saturated and inadmissibility(intensities) < threshold


def patches(intensities: np.ndarray, size: int, stride: int) -> np.ndarray:
    """All squares of a capture that begin at a multiple of `stride` and fit, row by row.

    Args:
        intensities: `(4, height, width)`.
        size: Side of a square, in pixels.
        stride: Distance from one to the next, in pixels.

    Returns:
        `(patches, 4, size, size)`, a copy.

    Raises:
        UserError: There are not four images, `stride` is not positive, or a square is larger than the images.
    """
    _check(intensities)
    if not 1 <= size <= min(intensities.shape[1:]) or stride < 1:
        raise UserError(
            f"patches of {size}x{size} pixels every {stride} cannot be cut from images of shape {intensities.shape}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(intensities, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(1, 2, 0, 3, 4).reshape(-1, 4, size, size)
