"""Parzen window estimate of a generator's log-likelihood, from samples alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .distribution import check_pair

DEFAULT_BANDWIDTHS: tuple[float, ...] = tuple(10 ** (k / 10 - 2) for k in range(31))  # 0.01 to 10


def _flat(examples: Tensor) -> Tensor:
    return examples.flatten(1)


def _log_densities(samples: Tensor, data: Tensor, bandwidths: Tensor, chunk_size: int) -> Tensor:
    """Log-density of each datum under each bandwidth, (number of bandwidths, number of data)."""
    check_pair(data, samples, smallest=1)
    centre = samples.mean(dim=0, dtype=torch.float64)  # small norms keep the expanded square exact
    centres = samples.double() - centre
    norms = centres.square().sum(1)
    dim = samples.shape[1]
    constants = -math.log(len(samples)) - dim / 2 * torch.log(2 * math.pi * bandwidths.square())
    densities = []
    for chunk in data.split(chunk_size):
        points = chunk.double() - centre
        squared = (points.square().sum(1)[:, None] + norms - 2 * points @ centres.T).clamp(min=0)
        densities.append(torch.stack([torch.logsumexp(-squared / (2 * h**2), dim=1) for h in bandwidths]))
    return torch.cat(densities, dim=1) + constants[:, None]


def parzen_log_likelihood(samples: Tensor, data: Tensor, bandwidth: float, *, chunk_size: int = 256) -> Tensor:
    """Log of the mean over samples s of N(x; s, bandwidth^2 I), in nats for each datum x.

    Breuleux et al. 2011; used for GANs by Goodfellow et al. 2014 (arXiv 1406.2661, table 1). Theis et al. 2016
    (arXiv 1511.01844) show how little it says in many dimensions: quote it for comparison only.

    Args:
        samples: Generated examples, (number, dim) or (number, channels, height, width).
        data: Examples to score, of the same shape and units.
        bandwidth: Standard deviation of the Gaussian kernel, in units of the data.
        chunk_size: Data handled at a time.

    Returns:
        (number of data,), float64.

    Raises:
        UserError: Different shapes or numbers that are not finite.
    """
    width = torch.tensor([bandwidth], dtype=torch.float64, device=samples.device)
    return _log_densities(_flat(samples), _flat(data), width, chunk_size)[0]


def choose_bandwidth(
    samples: Tensor,
    validation: Tensor,
    bandwidths: tuple[float, ...] = DEFAULT_BANDWIDTHS,
    *,
    chunk_size: int = 256,
) -> float:
    """The bandwidth of the grid under which `validation` has the largest mean Parzen log-likelihood.

    Args:
        samples: Generated examples, (number, dim) or (number, channels, height, width).
        validation: Held-out examples that are not the ones to be scored with the result.
        bandwidths: The grid, in units of the data.
        chunk_size: Validation examples handled at a time.

    Raises:
        UserError: Different shapes or numbers that are not finite.
    """
    grid = torch.tensor(bandwidths, dtype=torch.float64, device=samples.device)
    means = _log_densities(_flat(samples), _flat(validation), grid, chunk_size).mean(dim=1)
    return bandwidths[int(means.argmax())]
