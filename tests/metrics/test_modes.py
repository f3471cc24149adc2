"""Mode coverage of points in the plane."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels.metrics.modes import mode_coverage

CENTRES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def test_counted_by_hand():
    samples = torch.tensor([[0.0, 0.29], [0.0, 0.31], [1.1, 0.0], [1.0, 0.2], [0.5, 0.5]])
    assert mode_coverage(samples, CENTRES, std=0.1) == (2, pytest.approx(3 / 5))


def test_nothing_near_a_mode():
    assert mode_coverage(torch.full((4, 2), 9.0), CENTRES, std=0.1) == (0, 0.0)


def test_the_mixture_itself():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (20_000,), generator=generator)
    samples = CENTRES[labels] + 0.1 * torch.randn(20_000, 2, generator=generator)
    modes, share = mode_coverage(samples, CENTRES, std=0.1)
    assert modes == 3
    assert share == pytest.approx(1 - math.exp(-4.5), abs=0.003)  # a 2-D Gaussian within three deviations
