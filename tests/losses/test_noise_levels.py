"""Closed forms of noise levels against slow formulas, diffusers' schedulers, and each other."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, ScoreSdeVeScheduler

from hf_genmodels.losses.noise_levels import (
    edm_target,
    furthest,
    geometric_sigma,
    langevin_step_size,
    log_normal_sigma,
    logit_normal_time,
    over,
    path_velocity,
    precondition,
    score_input,
    score_of,
    shifted_time,
    straight_path,
)

SIGMAS = torch.tensor([0.002, 0.3, 1.0, 7.0, 80.0])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_preconditioning_is_the_schedulers():
    scheduler, noisy, prediction = EDMEulerScheduler(sigma_data=0.7), normal(5, 2, 4, 4), normal(5, 2, 4, 4, seed=1)
    scales = precondition(SIGMAS, 0.7)
    for row, sigma in enumerate(SIGMAS):
        denoised = scales.skip[row] * noisy[row] + scales.out[row] * prediction[row]
        torch.testing.assert_close(denoised, scheduler.precondition_outputs(noisy[row], prediction[row], sigma))
        torch.testing.assert_close(scales.inner[row] * noisy[row], scheduler.precondition_inputs(noisy[row], sigma))
        assert scales.noise[row].item() == pytest.approx(math.log(sigma) / 4)
        # table 1: the network's input has unit variance, and so has what it is to say
        variance = sigma.item() ** 2 + 0.49
        assert scales.inner[row].item() ** 2 * variance == pytest.approx(1, rel=1e-5)
        remains = ((1 - scales.skip[row]) ** 2 * 0.49 + scales.skip[row] ** 2 * sigma**2).item()
        assert scales.out[row].item() ** 2 == pytest.approx(remains, rel=1e-4)


def test_the_target_is_the_sample_behind_the_preconditioning():
    sample, noise = normal(5, 3), normal(5, 3, seed=1)
    noisy = sample + SIGMAS[:, None] * noise
    scales = precondition(SIGMAS.double(), 0.5)
    target = edm_target(sample.double(), noisy.double(), SIGMAS.double(), 0.5)
    torch.testing.assert_close(scales.skip[:, None] * noisy + scales.out[:, None] * target, sample.double())
    weight = (SIGMAS.double() ** 2 + 0.25) / (SIGMAS.double() * 0.5) ** 2
    torch.testing.assert_close(weight * scales.out**2, torch.ones(5).double())


def test_levels_are_those_of_their_distributions():
    places = (torch.arange(20000) + 0.5) / 20000
    logs = log_normal_sigma(places, -1.2, 1.3).log()
    assert (logs.mean().item(), logs.std().item()) == pytest.approx((-1.2, 1.3), abs=1e-3)
    logits = torch.logit(logit_normal_time(places, 0.5, 0.8))
    assert (logits.mean().item(), logits.std().item()) == pytest.approx((0.5, 0.8), abs=1e-3)
    assert log_normal_sigma(torch.zeros(1), -1.2, 1.2).isfinite().all()
    scheduler = ScoreSdeVeScheduler(num_train_timesteps=11, sigma_min=0.01, sigma_max=7.0)
    torch.testing.assert_close(geometric_sigma(torch.linspace(0, 1, 11), 0.01, 7.0), scheduler.discrete_sigmas)


def test_paths_and_shifts_are_the_schedulers():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    sample, noise, places = normal(4, 2, 3, 3), normal(4, 2, 3, 3, seed=1), torch.tensor([9, 500, 700, 999])
    times = shifted_time(torch.linspace(1, 0.001, 1000)[places], 3.0)
    torch.testing.assert_close(times, scheduler.sigmas[places], atol=1e-6, rtol=1e-4)
    theirs = scheduler.scale_noise(sample, scheduler.timesteps[places], noise)
    torch.testing.assert_close(straight_path(sample, noise, times), theirs, atol=1e-5, rtol=1e-4)
    before, after = (straight_path(sample, noise, torch.full((4,), time)) for time in (0.25, 0.5))
    torch.testing.assert_close((after - before) / 0.25, path_velocity(sample, noise))


def test_one_denoiser_says_velocity_score_and_preconditioned_output():
    """Of N(m, s^2): x = x_0 + sigma e is x_t / (1 - t) for sigma = t / (1 - t), and all three say the same x_0."""
    mean, std, sigma = 0.3, 0.6, torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    noisy = normal(3, 4).double() * 2
    level = over(sigma, noisy)
    denoised = mean + std**2 / (std**2 + level**2) * (noisy - mean)
    score = -(noisy - mean) / (std**2 + level**2)
    torch.testing.assert_close(noisy + level**2 * score, denoised)  # Tweedie's formula
    noise = (noisy - denoised) / level
    torch.testing.assert_close(score_of(noise, sigma), score)
    time = sigma / (1 + sigma)
    on_path = straight_path(denoised, noise, time)
    torch.testing.assert_close(on_path, noisy * over(1 - time, noisy))
    torch.testing.assert_close(on_path - over(time, noisy) * path_velocity(denoised, noise), denoised)
    scales = precondition(sigma, 0.5)
    output = edm_target(denoised, noisy, sigma, 0.5)
    torch.testing.assert_close(over(scales.skip, noisy) * noisy + over(scales.out, noisy) * output, denoised)


def test_corrector_takes_the_papers_step_where_noise_covers_the_data():
    """The scheduler's, of a batch: 2 (r |z| / |s|)^2, with the score -e / sigma of one picture."""
    scheduler = ScoreSdeVeScheduler(snr=0.2, sigma_max=5.0)
    scheduler.set_timesteps(10)
    score = -normal(50, 1, 30, 30) / 3.0
    moved = scheduler.step_correct(score, torch.zeros_like(score), torch.Generator().manual_seed(1)).prev_sample
    noise = torch.randn(score.shape, generator=torch.Generator().manual_seed(1))
    size = langevin_step_size(torch.tensor(3.0), 0.2)
    torch.testing.assert_close(moved, size * score + (2 * size).sqrt() * noise, atol=0.02, rtol=0.02)
    assert size.item() == pytest.approx(2 * (0.2 * 3) ** 2)


def test_sizes_of_what_the_score_network_sees_and_of_the_data():
    noisy = SIGMAS[:, None] * normal(5, 4000) + normal(5, 4000, seed=1)
    torch.testing.assert_close(score_input(noisy, SIGMAS).std(1), torch.ones(5), atol=0.05, rtol=0)
    points = normal(6, 1, 2, 2)
    slow = max((a - b).square().sum().sqrt().item() for a in points for b in points)
    assert furthest(points).item() == pytest.approx(slow, rel=1e-5)
