"""Figures of latent spaces against hand computations, torch.distributions and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch.distributions import MultivariateNormal, kl_divergence

from hf_genmodels.metrics.distribution import precision_recall
from hf_genmodels.metrics.latents import (
    active_units,
    aggregate_gaussian_kl,
    holes,
    mutual_information_gap,
)
from tests.testing_utils.refusals import refused


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_active_units_are_those_whose_mean_varies(generator: torch.Generator) -> None:
    codes = torch.randn(5000, 4, generator=generator) * torch.tensor([1.0, 0.11, 0.09, 0.0])
    assert active_units(codes + 7) == 2


def test_gaussian_of_the_aggregate_posterior(generator: torch.Generator) -> None:
    mean = torch.randn(400, 3, generator=generator) @ torch.randn(3, 3, generator=generator) + 0.3
    log_std = torch.randn(400, 3, generator=generator) / 2 - 1
    covariance = torch.cov(mean.T.double(), correction=0) + torch.exp(2 * log_std.double()).mean(0).diag()
    fitted = MultivariateNormal(mean.double().mean(0), covariance)
    prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    assert aggregate_gaussian_kl(mean, log_std) == pytest.approx(kl_divergence(fitted, prior).item(), rel=1e-6)
    # an encoder that says nothing has the prior as its aggregate posterior
    assert aggregate_gaussian_kl(torch.zeros(5, 3), torch.zeros(5, 3)) == pytest.approx(0)


def test_holes_are_where_no_codes_are(generator: torch.Generator) -> None:
    prior, codes = torch.randn(2, 2000, 2, generator=generator).unbind()
    right = codes[codes[:, 0] > 0]
    assert holes(right, prior).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert holes(codes, prior).float().mean() < 0.06
    assert holes(codes + 50, prior).all()
    share = holes(right, prior[:1500]).double().mean().item()
    assert share == pytest.approx(1 - precision_recall(right, prior[:1500]).precision)


def test_gap_of_codes_that_know_a_factor_each_in_part() -> None:
    """Four examples: z_0 says factor 0 whole, z_1 factor 1 whole, z_2 half of factor 0."""
    factors = torch.tensor([[0.0, 5.0], [1.0, 6.0], [0.0, 6.0], [1.0, 5.0]])
    codes = torch.tensor([[0.0, 1.0, 0.1], [9.0, 3.0, 0.9], [0.1, 3.0, 0.1], [9.0, 1.0, 0.1]])
    gap = mutual_information_gap(codes, factors, num_bins=2)
    # z_2 singles out example 1: I(z_2; v) = H(1/4) - 1/2 * H(1/2), for either factor
    second = (-math.log(0.25) / 4 - 0.75 * math.log(0.75) - math.log(2) / 2) / math.log(2)
    assert gap.of_factors.tolist() == pytest.approx([1 - second, 1 - second])
    assert gap.mean == pytest.approx(1 - second)


def test_gap_is_that_of_scikit_learns_information(generator: torch.Generator) -> None:
    factors = torch.stack([torch.randint(n, (500,), generator=generator) for n in (3, 5)], 1).float()
    noise = torch.randn(500, 4, generator=generator)
    codes = torch.cat([factors, -factors.sum(1, keepdim=True), torch.zeros(500, 1)], 1) + 0.4 * noise
    gap = mutual_information_gap(codes, factors, num_bins=7)
    wanted = []
    for column in factors.T:
        found = []
        for code in codes.T:
            edges = torch.linspace(code.min(), code.max(), 8)[1:-1]
            found.append(mutual_info_score(torch.bucketize(code.contiguous(), edges).tolist(), column.tolist()))
        *_, second, first = sorted(found)
        wanted.append((first - second) / mutual_info_score(column.tolist(), column.tolist()))
    assert gap.of_factors.tolist() == pytest.approx(wanted, abs=1e-3)
    assert gap.mean == pytest.approx(sum(wanted) / 2, abs=1e-3)


def test_gaps_that_cannot_be() -> None:
    with refused("compares dimensions of the code, and there is one only"):
        mutual_information_gap(torch.rand(5, 1), torch.rand(5, 2))
    with refused("factor 1 has the same value in all 5 examples"):
        mutual_information_gap(torch.rand(5, 2), torch.tensor([[0.0, 3.0]] * 4 + [[1.0, 3.0]]))
