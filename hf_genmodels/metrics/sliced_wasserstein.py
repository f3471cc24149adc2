"""Sliced Wasserstein distance: what two sets look like from many directions, compared by sorting."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .distribution import check_pair
from .products import as_floats, product

_BLOCK = 1024  # rows that are centred while they are in the processor's cache
_SMALL = 2**20  # numbers of a set up to which float64 costs nothing
_VISIBLE = 2e-3  # of the projections' spread: a distance that float32's errors do not reach


def sliced_wasserstein(
    features_a: Tensor,
    features_b: Tensor,
    *,
    generator: Generator,
    num_projections: int = 512,
    power: float = 2.0,
    chunk_size: int = 128,
) -> float:
    """Sliced Wasserstein distance, (mean over directions u of W_p(u.a, u.b)^p)^(1/p) (Bonneel et al. 2015).

    On a line the optimal plan matches quantiles, so sorting solves it exactly, for sets of different sizes too.

    Args:
        features_a: Features or raw samples, (number, dim).
        features_b: (number, dim); the numbers may differ.
        generator: Draws the directions, uniform on the unit sphere.
        num_projections: Number of directions.
        power: The p of W_p, at least 1.
        chunk_size: Directions onto which both sets are projected at a time.

    Returns:
        The distance, in units of the features.

    Raises:
        UserError: Different dimensions, empty sets or numbers that are not finite.
    """
    check_pair(features_a, features_b, smallest=1)
    a, b = as_floats(features_a, features_b)
    directions = torch.randn(a.shape[1], num_projections, dtype=torch.float64, generator=generator).to(a.device)
    directions /= directions.norm(dim=0)
    if a.dtype == torch.float32 and min(a.numel(), b.numel()) > _SMALL:
        distance, spread = _wasserstein_on_lines(a, b, directions.float(), power, chunk_size)
        if distance > _VISIBLE * spread:
            return distance
    return _wasserstein_on_lines(a, b, directions, power, chunk_size)[0]


def _wasserstein_on_lines(
    a: Tensor, b: Tensor, directions: Tensor, power: float, chunk_size: int
) -> tuple[float, float]:
    """The distance over these directions (dim, number) in their precision, and the spread of the projections."""
    centre = a.mean(dim=0)  # takes no part in the distance, and costs digits
    weights, of_a, of_b = _common_steps(len(a), len(b), a.device)
    total, squares = 0.0, 0.0
    for u in directions.split(chunk_size, dim=1):
        x, y = _sorted_projections(a, centre, u), _sorted_projections(b, centre, u)
        squares += x.square().sum(dtype=torch.float64).item()
        differences = x.sub_(y) if len(a) == len(b) else x[:, of_a] - y[:, of_b]
        for few in differences.split(16):  # in float64, for high powers leave float32's range
            total += (few.double().abs_().pow_(power).sum(dim=0) @ weights).item()
    number = directions.shape[1]
    return (total / number) ** (1 / power), math.sqrt(squares / (number * len(a)))


def _sorted_projections(features: Tensor, centre: Tensor, directions: Tensor) -> Tensor:
    """(directions, number), each row in ascending order."""
    transposed = directions.T.contiguous()
    projections = directions.new_empty(len(transposed), len(features))
    for start in range(0, len(features), _BLOCK):
        rows = features[start : start + _BLOCK].to(directions.dtype) - centre
        projections[:, start : start + _BLOCK] = product(transposed, rows)
    if projections.is_cuda:
        return projections.sort(dim=1).values
    projections.numpy().sort(axis=1)  # with vector instructions, which torch's sort does without
    return projections


def _common_steps(number_a: int, number_b: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where two quantile functions are constant: lengths of the steps, and the rank in either set that holds there."""
    # They step at i / number_a and j / number_b: whole numbers in units of 1 / (number_a number_b).
    steps_a = torch.arange(1, number_a + 1, device=device) * number_b
    steps_b = torch.arange(1, number_b + 1, device=device) * number_a
    steps = torch.cat([steps_a, steps_b]).unique()
    lengths = steps.diff(prepend=steps.new_zeros(1)).double() / (number_a * number_b)
    return lengths, torch.searchsorted(steps_a, steps), torch.searchsorted(steps_b, steps)
