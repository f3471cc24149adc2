"""Losses of translators and of the discriminators that judge them, against the papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels.losses.gan import GAN_LOSSES
from hf_genmodels.losses.translation import absolute_error, fooling_loss, judging_loss, pixel_loss


def logits(seed: int) -> torch.Tensor:
    return torch.randn(3, 1, 2, 4, generator=torch.Generator().manual_seed(seed)) * 2


def log_d(logit: float) -> float:
    return math.log(1 / (1 + math.exp(-logit)))


def log_not_d(logit: float) -> float:
    return math.log(1 - 1 / (1 + math.exp(-logit)))


# The losses of one logit: of a translator, of a discriminator on data, on fakes.
PAPERS = {
    "non_saturating": (lambda d: -log_d(d), lambda d: -log_d(d), lambda d: -log_not_d(d)),
    "least_squares": (lambda d: (d - 1) ** 2, lambda d: (d - 1) ** 2, lambda d: d**2),
    "wasserstein": (lambda d: -d, lambda d: -d, lambda d: d),
    "hinge": (lambda d: -d, lambda d: max(0.0, 1 - d), lambda d: max(0.0, 1 + d)),
}


@pytest.mark.parametrize("kind", PAPERS)
def test_adversarial_losses(kind):
    """A discriminator's is the mean of data and fakes: both papers halve it."""
    real, fake = logits(0), logits(1)
    fooling, on_real, on_fake = PAPERS[kind]
    ones, others = real.flatten().tolist(), fake.flatten().tolist()
    assert fooling_loss(kind, fake).item() == pytest.approx(sum(map(fooling, others)) / 24, rel=1e-5)
    expected = (sum(map(on_real, ones)) / 24 + sum(map(on_fake, others)) / 24) / 2
    assert judging_loss(kind, real, fake).item() == pytest.approx(expected, rel=1e-5)


def test_a_least_squares_translator_loss_is_no_half():
    assert fooling_loss("least_squares", torch.tensor([[3.0], [-1.0]])).item() == 4.0
    assert judging_loss("least_squares", torch.tensor([[2.0]]), torch.tensor([[3.0]])).item() == 5.0


def test_a_loss_of_ones_own():
    real, fake, own = logits(0), logits(1), GAN_LOSSES["hinge"]
    assert fooling_loss(own, fake) == fooling_loss("hinge", fake)
    assert judging_loss(own, real, fake) == judging_loss("hinge", real, fake)


def test_distances_between_images():
    one, other = torch.rand(2, 3, 4, 5) * 2 - 1, torch.rand(2, 3, 4, 5) * 2 - 1
    pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
    assert pixel_loss("l1", one, other).item() == pytest.approx(sum(abs(a - b) for a, b in pairs) / 120, rel=1e-5)
    assert pixel_loss("mse", one, other).item() == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 120, rel=1e-5)
    half = pixel_loss("l1", one.bfloat16(), other)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx((one.bfloat16().double() - other.double()).abs().mean().item(), rel=1e-5)


def test_the_held_out_error_is_on_the_scale_of_0_to_1():
    image = torch.tensor([[[[-3.0, 0.5]]], [[[0.2, 1.0]]]])
    target = torch.tensor([[[[-1.0, -0.5]]], [[[0.0, -1.0]]]])
    assert absolute_error(image, target).tolist() == pytest.approx([(0 + 0.5) / 2, (0.1 + 1.0) / 2])
