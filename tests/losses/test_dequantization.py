"""Grey levels, the continuous values that stand for them, and their likelihoods."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.losses.dequantization import bits_per_dim, check_range, dequantize, discrete_log_likelihood, quantize


def grey_levels(num_levels):
    """One image that has every level once, in [-1, 1]."""
    return (2 * torch.arange(num_levels) / (num_levels - 1) - 1).view(1, 1, 1, num_levels)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("noise", [0.001, 0.5, 0.999])
def test_every_level_comes_back_from_anywhere_inside_it(num_levels, noise):
    levels = grey_levels(num_levels)
    continuous = dequantize(levels, torch.full_like(levels, noise), num_levels)
    expected = [(level + noise) / num_levels - 0.5 for level in range(num_levels)]
    assert continuous.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(quantize(continuous, num_levels), levels, rtol=0, atol=1e-6)


def test_values_beside_a_level_are_rounded_to_it():
    levels = grey_levels(17)
    beside = (levels + 0.02).clamp(max=1)  # levels lie 1 / 8 apart
    assert torch.equal(
        dequantize(beside, 0.5 * torch.ones_like(levels), 17), (torch.arange(17) + 0.5) / 17 - 0.5 + 0 * levels
    )


def test_generated_values_outside_go_to_the_nearest_level():
    assert quantize(torch.tensor([-3.0, -0.5, 0.5, 7.0]), 17).tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize("value", [-1.01, 1.5, 255.0, math.nan])
def test_values_outside_the_range_are_a_one_line_error(value):
    images = torch.zeros(2, 1, 2, 2)
    images[1, 0, 1, 0] = value
    with pytest.raises(UserError, match=r"^images must lie in \[-1, 1\], got .*$"):
        check_range(images)


@pytest.mark.parametrize(("num_levels", "dim"), [(2, 5), (17, 64), (256, 3 * 32 * 32)])
def test_a_uniform_distribution_needs_log2_of_the_levels(num_levels, dim):
    log_density = torch.zeros(3)  # of the uniform density on [-1/2, 1/2)^dim
    discrete = discrete_log_likelihood(log_density, dim, num_levels)
    assert bits_per_dim(discrete, dim).tolist() == pytest.approx([math.log2(num_levels)] * 3)


def test_a_density_that_is_constant_on_each_level_gives_the_levels_probabilities():
    probabilities = torch.tensor([0.1, 0.2, 0.7])
    log_density = torch.log(probabilities * 3)  # each level is 1 / 3 wide
    torch.testing.assert_close(discrete_log_likelihood(log_density, 1, 3).exp(), probabilities)
