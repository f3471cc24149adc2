"""AVAE's losses between latents and the encoder's view of fakes, against loops over samples and dimensions."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels.losses.latent import LATENT_LOSSES, latent_loss

BATCH, DIM = 5, 3


def draws(log_std=(-0.4, 0.0, 0.3)):
    """Latents, the encoder's means of the fakes, and log sigma: the last sigma is above 1."""
    generator = torch.Generator().manual_seed(0)
    latents, means = torch.randn(2, BATCH, DIM, generator=generator).unbind()
    return latents, means, torch.tensor(log_std)


def slow_loss(kind, latents, means, log_std):
    """The formula of `kind`, one number after the other; for tensors that carry gradients too."""
    sigmas = [math.exp(value) for value in log_std.tolist()]
    total = 0.0
    for z, mu in zip(latents, means, strict=True):
        for j, sigma in enumerate(sigmas):
            if kind == "nll_a":
                total = total + 0.5 * ((mu[j] - z[j]) / sigma) ** 2
            elif kind == "nll_b":
                target = math.sqrt(max(0.0, 1 - sigma**2)) * z[j]
                total = total + 0.5 * ((mu[j] - target) / sigma) ** 2
            else:
                weight = sigma**-2 / sum(other**-2 for other in sigmas)
                total = total + 64 * 0.5 * weight * (z[j] - mu[j]) ** 2
    return total / len(latents)


def test_the_kinds_are_those_that_are_documented():
    assert set(LATENT_LOSSES) == {"nll_a", "nll_b", "softmax"}


@pytest.mark.parametrize("kind", LATENT_LOSSES)
@pytest.mark.parametrize("log_std", [(-0.4, 0.0, 0.3), (-3.0, -0.1, -0.1), (0.5, 0.5, 0.5)])
def test_losses_are_the_loops(kind, log_std):
    latents, means, log_std = draws(log_std)
    loss = latent_loss(kind, latents, means, log_std)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(slow_loss(kind, latents, means, log_std).item(), rel=1e-5)


@pytest.mark.parametrize("kind", LATENT_LOSSES)
def test_the_generator_learns_from_it_and_log_sigma_does_not(kind):
    latents, means, log_std = draws()
    means.requires_grad_()
    log_std.requires_grad_()
    loss = latent_loss(kind, latents, means, log_std)
    actual, of_log_std = torch.autograd.grad(loss, [means, log_std], allow_unused=True)
    assert of_log_std is None
    (expected,) = torch.autograd.grad(slow_loss(kind, latents, means, log_std.detach()), means)
    torch.testing.assert_close(actual, expected)
    assert actual.abs().min() > 0


def test_the_second_target_has_the_spread_of_the_encoders_means():
    """N(0, I) minus the posterior's variance: where sigma is 1 or more, the posterior is the prior and mu is 0."""
    latents, _, log_std = draws()
    spread = (1 - torch.exp(2 * log_std)).clamp(min=0).sqrt()
    assert spread[1:].tolist() == [0, 0]
    assert latent_loss("nll_b", latents, spread * latents, log_std).item() == 0
    assert latent_loss("nll_a", latents, latents, log_std).item() == 0
    assert latent_loss("nll_b", latents, latents, log_std).item() > 0.1


def test_above_a_deviation_of_one_the_loss_is_finite_with_a_gradient():
    latents, means, log_std = draws((0.0, 2.0, 5.0))
    means.requires_grad_()
    loss = latent_loss("nll_b", latents, means, log_std)
    (gradient,) = torch.autograd.grad(loss, means)
    torch.testing.assert_close(gradient, means.detach() * torch.exp(-2 * log_std) / BATCH)


def test_the_softmax_weights_sum_to_one_and_the_scale_is_that_of_sixty_four_samples():
    """The authors' sum over their batch of 64, whatever ours is."""
    latents = torch.randn(64, DIM, generator=torch.Generator().manual_seed(1))
    means, log_std = torch.zeros(64, DIM), torch.tensor([-1.0, 0.0, 2.0])
    weights = torch.exp(-2 * log_std) / torch.exp(-2 * log_std).sum()
    authors = 0.5 * (weights * latents.square()).sum()
    assert latent_loss("softmax", latents, means, log_std).item() == pytest.approx(authors.item(), rel=1e-5)
    twice = latent_loss("softmax", latents.repeat(2, 1), means.repeat(2, 1), log_std)
    assert twice.item() == pytest.approx(authors.item(), rel=1e-5)
    same = latent_loss("softmax", latents, means, log_std + 3)
    assert same.item() == pytest.approx(authors.item(), rel=1e-5)
    # one weight for all: half the mean squared distance, 64 times
    even = latent_loss("softmax", torch.ones(2, 4), torch.zeros(2, 4), torch.zeros(4))
    assert even.item() == pytest.approx(32)


@pytest.mark.parametrize("kind", LATENT_LOSSES)
def test_half_precision_is_summed_in_float32(kind):
    latents, means, log_std = (values.bfloat16() for values in draws())
    loss = latent_loss(kind, latents, means, log_std)
    assert loss.dtype == torch.float32
    assert loss.item() == latent_loss(kind, latents.float(), means.float(), log_std.float()).item()
