"""Regularisers of codes against slow formulas."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels.losses.sparsity import contractive_penalty, kl_sparsity, l1_sparsity


def test_l1_is_summed_over_the_code_and_averaged_over_the_batch():
    assert l1_sparsity(torch.tensor([[1.0, -2.0], [0.0, 3.0]])).item() == 3.0


@pytest.mark.parametrize("target", [0.05, 0.5])
def test_kl_sparsity_is_the_divergence_of_coins(target):
    latents = torch.tensor([[0.1, 0.8], [0.3, 0.4]], dtype=torch.float64)
    expected = 0.0
    for mean in (0.2, 0.6):
        expected += target * math.log(target / mean) + (1 - target) * math.log((1 - target) / (1 - mean))
    assert kl_sparsity(latents, target).item() == pytest.approx(expected, rel=1e-5)


def test_kl_sparsity_is_finite_where_units_are_saturated():
    assert kl_sparsity(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 0.05).isfinite()


def test_contractive_penalty_is_the_squared_norm_of_the_jacobian():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.Sigmoid())
    sample = torch.randn(3, 3, 2, 2, requires_grad=True)
    expected = sum(
        torch.autograd.functional.jacobian(network, one[None]).square().sum().item() for one in sample.detach()
    )
    penalty = contractive_penalty(network(sample), sample)
    assert penalty.item() == pytest.approx(expected / 3, rel=1e-5)
    penalty.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in [network[1].weight])
