"""Closed forms of diffusion against diffusers' schedulers, torch.distributions and scipy."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from hf_genmodels.losses.diffusion import (
    PredictionType,
    discretized_gaussian_log_likelihood,
    min_snr_weight,
    posterior_kl,
    predicted_noise,
    predicted_sample,
    prediction_target,
    prior_kl,
    q_sample,
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
