"""How well samples keep to known pixels, and how far apart the samples of one map of known pixels lie."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from ..losses.constraints import check_constraints

EPSILON = 0.1  # Ruffino et al. 2020: of the squared error, for images in [-1, 1]


def constraint_errors(samples: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of each sample over its known entries.

    Args:
        samples: (batch, channels, height, width).
        values: Same shape; any finite values where nothing is known.
        mask: (batch, 1, height, width), 1 or True where all channels of a pixel are known, else 0.

    Returns:
        (batch,), float64, in squared units of the samples.

    Raises:
        UserError: Shapes that do not belong together, or a mask without a known pixel.
    """
    squared, known = _squared_errors(samples, values, mask)
    return (squared * known).sum((1, 2)) / (known.sum((1, 2)) * samples.shape[1])


def satisfied_share(samples: Tensor, values: Tensor, mask: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Share of each sample's known pixels whose squared error, summed over the channels, is below epsilon * channels.

    Ruffino et al. 2020 (arXiv 2002.01281) with epsilon 0.1. Their code squares the sum of the channels' errors, which
    may cancel; of grey images both are the same.

    Args:
        samples: (batch, channels, height, width) in [-1, 1], for which epsilon is meant.
        values: Same shape; any finite values where nothing is known.
        mask: (batch, 1, height, width), 1 or True where all channels of a pixel are known, else 0.
        epsilon: Above 0, in squared units of the samples.

    Returns:
        (batch,), float64, in [0, 1].

    Raises:
        UserError: Shapes that do not belong together, or a mask without a known pixel.
    """
    return kept_share(constraint_map(samples, values, mask, epsilon))


def kept_share(satisfied: Tensor) -> Tensor:
    """`satisfied_share` of a `constraint_map`, (batch,), float64."""
    return (satisfied > 0).double().sum((1, 2)) / (satisfied != 0).double().sum((1, 2))


def constraint_map(samples: Tensor, values: Tensor, mask: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Which known pixels each sample keeps to: 1 where `satisfied_share` counts it, -1 where it does not, 0 elsewhere.

    Args:
        samples: As of `satisfied_share`, and so are the others.
        values: y.
        mask: M.
        epsilon: Above 0.

    Returns:
        (batch, height, width), int8; `plots.constraint_picture` shows it in green and red.

    Raises:
        UserError: Shapes that do not belong together, or a mask without a known pixel.
    """
    squared, known = _squared_errors(samples, values, mask)
    satisfied = torch.where(squared < epsilon * samples.shape[1], 1, -1)
    return torch.where(known > 0, satisfied, 0).to(torch.int8)


def spread(samples: Tensor) -> Tensor:
    """How far apart samples of one map of known pixels lie: the standard deviation of an entry, mean over all entries.

    The variance is the unbiased one. Samples of an unconditional generator, as one "map" or in groups, give a figure
    to compare with; take groups of the same size, since the root makes small groups look a little closer.

    Args:
        samples: (maps, samples, channels, height, width), at least two samples of each map.

    Returns:
        (maps,), float64, in units of the samples.

    Raises:
        UserError: Another shape, or a single sample.
    """
    if samples.ndim != 5 or samples.shape[1] < 2:
        raise UserError(
            "spread takes (maps, samples, channels, height, width) with at least two samples of each map, "
            f"got {tuple(samples.shape)}"
        )
    return samples.double().std(dim=1).flatten(1).mean(dim=1)


def _squared_errors(samples: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of each pixel, summed over channels, and whether it is known: (batch, height, width), float64."""
    check_constraints(samples, values, mask)
    known = mask[:, 0].double()
    without = (known.flatten(1).sum(1) == 0).nonzero().flatten().tolist()
    if without:
        raise UserError(f"mask {without[0]} has no known pixel; each needs at least one")
    return (samples.double() - values.double()).square().sum(1), known
