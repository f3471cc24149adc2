"""Likelihoods and divergences against torch.distributions and slow sums."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from hf_genmodels.losses import likelihood

SHAPES = [(3, 2), (2, 1, 4, 4), (5, 3, 2, 2)]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("std", [0.1, 1.0, 3.0])
def test_gaussian_nll_is_the_normal_density(shape, std, generator):
    sample, mean = torch.randn(2, *shape, generator=generator).unbind()
    expected = -Normal(mean, std).log_prob(sample).flatten(1).sum(1)
    actual = likelihood.gaussian_nll(sample, mean, torch.tensor(std).log())
    assert actual.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli_nll_takes_grey_values_as_probabilities(shape, generator):
    sample = torch.rand(shape, generator=generator) * 2 - 1
    logits = 5 * torch.randn(shape, generator=generator)
    one, zero = (
        Bernoulli(logits=logits).log_prob(torch.ones(shape)),
        Bernoulli(logits=logits).log_prob(torch.zeros(shape)),
    )
    probability = (sample + 1) / 2
    expected = -(probability * one + (1 - probability) * zero).flatten(1).sum(1)
    assert likelihood.bernoulli_nll(sample, logits).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_bernoulli_nll_is_finite_for_extreme_logits():
    assert likelihood.bernoulli_nll(torch.tensor([[-1.0, 1.0]]), torch.tensor([[200.0, -200.0]])).item() == 400


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_categorical_nll_reads_grey_levels(levels, generator):
    index = torch.randint(levels, (3, 2, 4, 4), generator=generator)
    logits = torch.randn(3, levels, 2, 4, 4, generator=generator)
    expected = -Categorical(logits=logits.movedim(1, -1)).log_prob(index).flatten(1).sum(1)
    actual = likelihood.categorical_nll(index / (levels - 1) * 2 - 1, logits)
    assert actual.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_kl_is_that_of_torch_distributions_and_so_is_its_gradient(generator):
    mean, log_std = (torch.randn(4, 3, generator=generator).requires_grad_() for _ in range(2))
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0))
    actual = likelihood.kl_standard_normal(mean, log_std)
    assert actual.flatten().tolist() == pytest.approx(expected.flatten().tolist(), rel=1e-5)
    wanted = torch.autograd.grad(expected.sum(), [mean, log_std])
    got = torch.autograd.grad(actual.sum(), [mean, log_std])
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.flatten().tolist() == pytest.approx(theirs.flatten().tolist(), rel=1e-4, abs=1e-6)


def test_sampled_kl_is_log_q_minus_log_p_and_so_is_its_gradient(generator):
    mean, log_std = (torch.randn(4, 3, generator=generator).requires_grad_() for _ in range(2))
    latents = mean + log_std.exp() * torch.randn(4, 3, generator=generator)
    expected = Normal(mean, log_std.exp()).log_prob(latents) - Normal(0.0, 1.0).log_prob(latents)
    actual = likelihood.kl_sampled(latents, mean, log_std)
    assert actual.flatten().tolist() == pytest.approx(expected.flatten().tolist(), rel=1e-4, abs=1e-5)
    wanted, got = (torch.autograd.grad(each.sum(), [mean, log_std], retain_graph=True) for each in (expected, actual))
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.flatten().tolist() == pytest.approx(theirs.flatten().tolist(), rel=1e-4, abs=1e-4)


def test_sampled_kl_has_the_closed_form_as_mean_and_so_has_its_gradient(generator):
    parameters = [torch.tensor([0.0, 1.5, -0.7]), torch.tensor([0.4, -1.0, -2.0])]
    mean, log_std = (each.expand(200_000, 3).clone().requires_grad_() for each in parameters)
    noise = torch.randn(200_000, 3, generator=generator)
    sampled = likelihood.kl_sampled(mean + log_std.exp() * noise, mean, log_std)
    exact = likelihood.kl_standard_normal(mean, log_std)
    assert sampled.mean(0).tolist() == pytest.approx(exact[0].tolist(), abs=0.015)
    variance = log_std[0].exp().square() * mean[0].square() + (1 - log_std[0].exp().square()).square() / 2
    assert sampled.var(0).tolist() == pytest.approx(variance.tolist(), rel=0.03)
    for ours, theirs in zip(
        torch.autograd.grad(sampled.sum(), [mean, log_std]),
        torch.autograd.grad(exact.sum(), [mean, log_std]),
        strict=True,
    ):
        assert ours.mean(0).tolist() == pytest.approx(theirs[0].tolist(), abs=0.02)


def test_free_bits_stop_the_gradient_of_small_dimensions():
    kl = torch.tensor([[0.1, 2.0], [0.3, 4.0]], requires_grad=True)
    bound = likelihood.free_bits(kl, 0.5)
    assert bound.item() == pytest.approx(0.5 + 3.0)
    bound.backward()
    assert kl.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]


def test_importance_weighted_bound_of_a_linear_gaussian_model_reaches_the_truth(generator):
    """x = z + noise: p(x) = N(0, 2). A posterior that is a little off gives a bound that K closes."""
    sample = torch.tensor([[0.7], [-1.3]])
    truth = Normal(0.0, math.sqrt(2)).log_prob(sample).squeeze(1)
    mean, log_std = sample / 2 + 0.2, torch.full_like(sample, math.log(0.8))
    bounds = []
    for count in (1, 20_000):
        noise = torch.randn(count, *sample.shape, generator=generator)
        weights = []
        for draw in noise:
            latents = mean + log_std.exp() * draw
            log_weight = -likelihood.gaussian_nll(sample, latents, torch.tensor(0.0))
            log_weight = log_weight + likelihood.standard_normal_log_density(latents)
            weights.append(log_weight + likelihood.gaussian_nll(latents, mean, log_std))
        bounds.append(likelihood.importance_weighted_log_likelihood(torch.stack(weights)))
    assert bounds[1].tolist() == pytest.approx(truth.tolist(), abs=0.01)
