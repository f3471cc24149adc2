"""Closed forms of diffusion against diffusers' schedulers, torch.distributions and scipy."""

from __future__ import annotations

import math
from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from hf_genmodels.losses.diffusion import (
    PredictionType,
    bound_terms,
    discretized_gaussian_log_likelihood,
    fixed_log_variances,
    learned_log_variance,
    log_variance_bounds,
    min_snr_weight,
    posterior_kl,
    posterior_sample,
    predicted_noise,
    predicted_sample,
    prediction_target,
    prior_kl,
    q_sample,
    variance_preserving_betas,
)

TYPES = get_args(PredictionType)
SCHEDULER = DDPMScheduler(20, beta_schedule="squaredcos_cap_v2")
TIMESTEPS = torch.tensor([1, 4, 9, 19])
ALPHA_BAR = SCHEDULER.alphas_cumprod[TIMESTEPS]


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and noise, (4, 2, 3, 3)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 2, 3, 3, generator=generator) * 2 - 1, torch.randn(4, 2, 3, 3, generator=generator)


def test_noising_and_v_are_those_of_the_scheduler(pair):
    sample, noise = pair
    noisy = SCHEDULER.add_noise(sample, noise, TIMESTEPS)
    torch.testing.assert_close(q_sample(sample, noise, ALPHA_BAR), noisy)
    velocity = SCHEDULER.get_velocity(sample, noise, TIMESTEPS)
    torch.testing.assert_close(prediction_target("v_prediction", sample, noise, ALPHA_BAR), velocity)


@pytest.mark.parametrize("kind", TYPES)
def test_a_right_prediction_gives_back_sample_and_noise(kind, pair):
    sample, noise = pair
    noisy = q_sample(sample, noise, ALPHA_BAR)
    prediction = prediction_target(kind, sample, noise, ALPHA_BAR)
    # at the last step next to nothing is left of the sample
    known = slice(None, 3)
    found = predicted_sample(kind, prediction, noisy, ALPHA_BAR)
    torch.testing.assert_close(found[known], sample[known], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(predicted_noise(kind, prediction, noisy, ALPHA_BAR), noise, atol=1e-5, rtol=1e-4)
    one = predicted_noise(kind, prediction[1:2], noisy[1:2], ALPHA_BAR[1])
    torch.testing.assert_close(one, noise[1:2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_a_wrong_prediction_is_the_same_for_sample_and_noise(kind, pair):
    """The sample and noise that it stands for make up x_t."""
    sample, noise = pair
    noisy = q_sample(sample, noise, ALPHA_BAR)
    wrong = torch.full_like(noisy, 0.3)
    again = q_sample(
        predicted_sample(kind, wrong, noisy, ALPHA_BAR), predicted_noise(kind, wrong, noisy, ALPHA_BAR), ALPHA_BAR
    )
    torch.testing.assert_close(again, noisy, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weights_are_those_of_the_samples_error(kind, gamma, pair):
    sample, noise = pair
    noisy = q_sample(sample, noise, ALPHA_BAR)
    target = prediction_target(kind, sample, noise, ALPHA_BAR)
    wrong = target + 0.1
    weighted = min_snr_weight(kind, ALPHA_BAR, gamma) * (wrong - target).square().mean((1, 2, 3))
    error = (
        predicted_sample(kind, wrong, noisy, ALPHA_BAR) - predicted_sample(kind, target, noisy, ALPHA_BAR)
    ).square()
    expected = [
        min(a / (1 - a), gamma) * e for a, e in zip(ALPHA_BAR.tolist(), error.mean((1, 2, 3)).tolist(), strict=True)
    ]
    assert weighted.tolist() == pytest.approx(expected, rel=1e-3)


def test_bounds_terms_are_divergences_of_gaussians(pair):
    sample, noise = pair
    predicted = sample + 0.2 * torch.sin(5 * noise)
    noisy = q_sample(sample, noise, ALPHA_BAR).double()
    for row, t in enumerate(TIMESTEPS.tolist()):
        now, before = SCHEDULER.alphas_cumprod[t].double(), SCHEDULER.alphas_cumprod[t - 1].double()
        beta = 1 - now / before
        variance = (1 - before) / (1 - now) * beta

        def posterior(x: torch.Tensor, row=row, now=now, before=before, beta=beta, variance=variance) -> Normal:
            mean = before.sqrt() * beta / (1 - now) * x[row].double()
            mean = mean + (1 - beta).sqrt() * (1 - before) / (1 - now) * noisy[row]
            return Normal(mean, variance.sqrt())

        expected = kl_divergence(posterior(sample), posterior(predicted)).sum().item()
        before = SCHEDULER.alphas_cumprod[TIMESTEPS - 1]
        assert posterior_kl(sample, predicted, ALPHA_BAR, before)[row].item() == pytest.approx(expected, rel=1e-4)
    last = torch.tensor(0.3)
    expected = kl_divergence(Normal(sample * math.sqrt(0.3), math.sqrt(0.7)), Normal(0.0, 1.0)).flatten(1).sum(1)
    assert prior_kl(sample, last).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("std", [0.01, 0.3, 2.0])
def test_probabilities_of_grey_levels(levels, std):
    grid = np.arange(levels) / (levels - 1) * 2 - 1
    for mean in (-1.7, -0.4, 0.01, 0.93):
        edges = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2, [np.inf]])
        side = np.where(edges > mean, -1, 1)  # the tail in which a difference is exact
        log_tail = np.array([norm.logcdf(s * (e - mean) / std) for s, e in zip(side, edges, strict=True)])
        found = discretized_gaussian_log_likelihood(
            torch.tensor(grid, dtype=torch.float32)[:, None],
            torch.full((levels, 1), mean),
            torch.tensor(std).log(),
            levels,
        )
        assert found.isfinite().all()
        assert found.exp().sum().item() == pytest.approx(1, abs=1e-4)
        for level in range(levels):
            lower, upper = log_tail[level], log_tail[level + 1]
            if side[level] != side[level + 1]:
                expected = math.log(max(1 - math.exp(lower) - math.exp(upper), 1e-300))
            else:
                high, low = max(lower, upper), min(lower, upper)
                expected = high + math.log1p(-math.exp(low - high))
            assert found[level].item() == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_log_likelihoods_are_summed_over_an_image():
    sample = torch.tensor([[[[-1.0, 0.0], [0.5, 1.0]]]])
    mean = torch.tensor([[[[-0.9, 0.1], [0.4, 0.7]]]])
    whole = discretized_gaussian_log_likelihood(sample, mean, torch.tensor(-1.0), 5)
    pixels = discretized_gaussian_log_likelihood(
        sample.reshape(4, 1), mean.reshape(4, 1), torch.tensor([[-1.0]] * 4), 5
    )
    assert whole.shape == (1,) and whole.item() == pytest.approx(pixels.sum().item(), rel=1e-6)


# learned variances ---------------------------------------------------------------------------------------------------


def test_learned_variances_are_those_of_the_scheduler():
    scheduler = DDPMScheduler(20, beta_schedule="squaredcos_cap_v2", variance_type="learned_range")
    values = torch.linspace(-1.5, 1.5, 12).reshape(4, 3)
    least, greatest = log_variance_bounds(scheduler.alphas_cumprod)
    found = learned_log_variance(values, least[TIMESTEPS], greatest[TIMESTEPS])
    for row, t in enumerate(TIMESTEPS.tolist()):
        expected = scheduler._get_variance(t, predicted_variance=values[row])
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-4)
    # the first step's least variance would be 0
    assert least[0] == least[1] and greatest[0].item() == pytest.approx(scheduler.betas[0].log().item(), rel=1e-4)
    small, variance_of = (
        fixed_log_variances(scheduler.alphas_cumprod),
        partial(scheduler._get_variance, variance_type="fixed_small"),
    )
    for t in (1, 7, 19):
        assert small[t].exp().item() == pytest.approx(variance_of(t).item(), 1e-4)
    assert small[0].exp().item() == pytest.approx(scheduler.betas[0].item(), rel=1e-4)


def slow_terms(sample, predicted, log_variance, timesteps, levels) -> torch.Tensor:
    """Each term by the distributions themselves, in float64; the level's probability as a difference of two."""
    bars, terms = SCHEDULER.alphas_cumprod.double(), []
    for row, t in enumerate(timesteps.tolist()):
        x, guess, std = sample[row].double(), predicted[row], torch.exp(log_variance[row] / 2)
        if t == 0:
            p = Normal(guess, std)
            if levels is None:
                terms.append(-p.log_prob(x).sum())
                continue
            half = 1 / (levels - 1)
            upper = torch.where(x > 1 - half, 1.0, p.cdf(x + half))
            terms.append(-(upper - torch.where(x < half - 1, 0.0, p.cdf(x - half))).log().sum())
            continue
        now, before = bars[t], bars[t - 1]
        beta = 1 - now / before
        noisy = torch.full_like(x, 0.3)  # the same in both means
        kept = (1 - beta).sqrt() * (1 - before) / (1 - now) * noisy
        means = [before.sqrt() * beta / (1 - now) * each + kept for each in (x, guess)]
        q = Normal(means[0], ((1 - before) / (1 - now) * beta).sqrt())
        terms.append(kl_divergence(q, Normal(means[1], std)).sum())
    return torch.stack(terms)


@pytest.mark.parametrize("levels", [None, 17, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bound_with_learned_variances(levels, dtype, pair):
    sample, noise = pair
    grid = 16 if levels is None else levels - 1
    sample = ((sample + 1) / 2 * grid).round() / grid * 2 - 1
    sample[0, 0, 0] = torch.tensor([-1.0, 1.0, 1.0])
    timesteps, bars = torch.tensor([0, 1, 9, 19]), SCHEDULER.alphas_cumprod
    least, greatest = log_variance_bounds(bars)
    predicted = (sample + 0.1 * noise).to(dtype).requires_grad_()
    values = torch.sin(7 * noise).to(dtype).requires_grad_()
    log_variance = learned_log_variance(values, least[timesteps], greatest[timesteps])
    bars, low = bars.to(dtype), least.to(dtype)
    found = bound_terms(sample.to(dtype), predicted, log_variance, timesteps, bars, low, levels)
    expected = slow_terms(sample, predicted.double(), log_variance.double(), timesteps, levels)
    precision = 2e-3 if dtype == torch.float32 else 1e-6
    assert found.tolist() == pytest.approx(expected.tolist(), rel=precision)
    gradients = [
        torch.autograd.grad(terms.sum(), (predicted, values), retain_graph=True) for terms in (found, expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.abs().sum(dim=(1, 2, 3)).min() > 0
        torch.testing.assert_close(ours, theirs, rtol=10 * precision, atol=precision)


def test_bound_with_the_posterior_variance_is_that_of_the_posterior(pair):
    sample, noise = pair
    bars = SCHEDULER.alphas_cumprod
    fixed, (least, _) = fixed_log_variances(bars).float(), log_variance_bounds(bars)
    found = bound_terms(
        sample, sample + 0.1 * noise, fixed[TIMESTEPS].view(-1, 1, 1, 1), TIMESTEPS, bars, least.float(), 256
    )
    expected = posterior_kl(sample, sample + 0.1 * noise, bars[TIMESTEPS], bars[TIMESTEPS - 1])
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


# few large steps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_betas_are_what_the_rate_of_the_noise_leaves(steps):
    alpha_bars = np.cumprod(1 - np.array(variance_preserving_betas(steps)))
    for number, alpha_bar in enumerate(alpha_bars, start=1):
        times = np.linspace(0.001, 0.001 + 0.999 * number / steps, 20_001)
        rates = 0.1 + 19.9 * times
        integral = np.sum((rates[1:] + rates[:-1]) / 2 * np.diff(times))
        assert alpha_bar == pytest.approx(math.exp(-integral), rel=1e-6)


def test_posterior_is_bayes(pair):
    """Density of x_{t-1} given x_0, times that of x_t given x_{t-1}: a product of two Gaussians in x_{t-1}."""
    sample, noise = (each.double().requires_grad_() for each in pair)
    noisy = torch.linspace(-2, 2, sample.numel(), dtype=torch.float64).reshape(sample.shape).requires_grad_()
    alpha_bars = np.cumprod(1 - np.array(variance_preserving_betas(5)))
    before, after = (torch.tensor(alpha_bars[place : place + 4]) for place in (0, 1))
    drawn = posterior_sample(sample, noisy, noise, after, before)
    slow = []
    for row, (earlier, later) in enumerate(zip(before, after, strict=True)):
        step = later / earlier
        precision = 1 / (1 - earlier) + step / (1 - step)
        mean = (earlier.sqrt() * sample[row] / (1 - earlier) + step.sqrt() * noisy[row] / (1 - step)) / precision
        slow.append(mean + noise[row] / precision.sqrt())
    torch.testing.assert_close(drawn, torch.stack(slow))
    weights = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    both = [torch.autograd.grad((each * weights).sum(), (sample, noisy)) for each in (drawn, torch.stack(slow))]
    torch.testing.assert_close(*both)


def test_the_posterior_before_the_first_step_is_the_sample(pair):
    sample, noise = pair
    first = torch.full((4,), 0.5)
    assert torch.equal(posterior_sample(sample, noise, noise, first, torch.ones(4)), sample)
