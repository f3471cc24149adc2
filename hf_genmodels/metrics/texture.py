"""Chi-square distances between two sets of textures: of their edges' directions, and of their local patterns.

Ruffino's thesis (chapter 2) compares histograms of HOG and of LBP by their chi-square distance. (Its code has
squared differences of paired images instead, which is no distance of distributions.) A set is one histogram here:
cells, blocks, pixels and images are all pooled.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

ORIENTATIONS, CELL, BLOCK = 9, 8, 2  # Dalal & Triggs 2005: degrees / 20, pixels, cells


def chi_square(first: Tensor, second: Tensor) -> float:
    """1/2 sum_i (p_i - q_i)^2 / (p_i + q_i) of two histograms, each divided by its sum; bins empty in both count 0.

    Args:
        first: (bins,), at least 0 and not all 0.
        second: The same.

    Returns:
        In [0, 1]: 0 for equal histograms, 1 for those that share no bin.

    Raises:
        UserError: They are no histograms of the same bins.
    """
    p, q = first.double(), second.double()
    if p.ndim != 1 or p.shape != q.shape or min(p.min(), q.min()) < 0 or not (p.sum() > 0 and q.sum() > 0):
        raise UserError(
            "chi-square takes two histograms of the same bins that are not empty, got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    p, q = p / p.sum(), q / q.sum()
    total = p + q
    return ((p - q).square() / torch.where(total > 0, total, 1)).sum().item() / 2


def hog_distance(images: Tensor, samples: Tensor) -> float:
    """Chi-square distance of the distributions of gradient directions.

    Histograms of oriented gradients as in Dalal & Triggs 2005: 9 directions of 20 degrees, cells of 8x8 pixels,
    normalised in blocks of 2x2 cells (L2-Hys), then summed over all of them. Each channel is a grey image.

    Args:
        images: (number, channels, height, width) in [0, 1], at least 16x16 pixels.
        samples: The same; number and size may differ.

    Returns:
        In [0, 1].

    Raises:
        UserError: Images of another form or without an edge, or scikit-image is not installed.
    """
    return chi_square(*(_hog_histogram(each) for each in (images, samples)))


def lbp_distance(images: Tensor, samples: Tensor, radius: int = 1) -> float:
    """Chi-square distance of the distributions of uniform local binary patterns (Ojala et al. 2002).

    A pixel is compared with 8 * radius points on a circle around it, in 8-bit grey levels; what is outside of the
    image counts as 0. Rotated patterns share a bin. The thesis has radius 1 and 2. Each channel is a grey image.

    Args:
        images: (number, channels, height, width) in [0, 1].
        samples: The same; number and size may differ.
        radius: Of the circle in pixels, at least 1.

    Returns:
        In [0, 1].

    Raises:
        UserError: Images of another form, an impossible radius, or scikit-image is not installed.
    """
    if radius < 1:
        raise UserError(f"LBP: radius must be at least 1, got {radius}")
    return chi_square(*(_lbp_histogram(each, radius) for each in (images, samples)))


def _hog_histogram(images: Tensor) -> Tensor:
    """Sum of all blocks' directions, (9,)."""
    smallest = CELL * BLOCK
    channels = _grey_images(images, "HOG")
    if min(images.shape[2:]) < smallest:
        raise UserError(f"HOG needs images of {smallest}x{smallest} pixels or more, got {tuple(images.shape)}")
    from skimage.feature import hog

    sizes = {"pixels_per_cell": (CELL, CELL), "cells_per_block": (BLOCK, BLOCK)}
    total = sum(
        hog(channel, orientations=ORIENTATIONS, **sizes, feature_vector=False).reshape(-1, ORIENTATIONS).sum(0)
        for channel in channels
    )
    return torch.as_tensor(total)


def _lbp_histogram(images: Tensor, radius: int) -> Tensor:
    """Number of pixels with each pattern, (8 radius + 2,): uniform ones by their number of ones, then all others."""
    channels = _grey_images(images, "LBP")
    from skimage.feature import local_binary_pattern

    points = 8 * radius
    counts = torch.zeros(points + 2, dtype=torch.int64)
    for channel in channels:
        pattern = local_binary_pattern((channel * 255).round().astype(np.uint8), points, radius, method="uniform")
        counts += torch.bincount(torch.from_numpy(pattern).long().flatten(), minlength=points + 2)
    return counts


def _grey_images(images: Tensor, metric: str) -> np.ndarray:
    """All channels of all images, (number * channels, height, width) float64."""
    if find_spec("skimage") is None:
        raise UserError(f"{metric} needs scikit-image, which is not installed: pip install hf_genmodels[builtin]")
    if images.ndim != 4 or not images.numel():
        raise UserError(f"{metric} is for images, (number, channels, height, width); got shape {tuple(images.shape)}")
    if not (images.min() >= 0 and images.max() <= 1):
        raise UserError(f"{metric}: images must lie in [0, 1], got [{images.min():.4g}, {images.max():.4g}]")
    array: np.ndarray = images.double().flatten(0, 1).cpu().numpy()
    return array
