"""The Dirac-GAN (Mescheder et al. 2018, arXiv 1801.04406): does training with our losses converge?

The data are a point mass at 0, the generator one at theta, the discriminator is d(x) = psi x. The equilibrium is
theta = psi = 0. Gradient descent on the plain losses does not arrive there, with R1 or R2 it does.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hf_genmodels.losses.gan import discriminator_loss, generator_loss
from hf_genmodels.losses.penalties import gradient_penalty, interpolate, r1_penalty, r2_penalty

LEARNING_RATE = 0.1
STEPS = 400


class Point(nn.Module):
    """The generator: theta, whatever z is."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([start]))

    def forward(self, latents: Tensor) -> Tensor:
        return self.theta.expand(len(latents), 1)


class Slope(nn.Module):
    """The discriminator d(x) = psi x."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([start]))

    def forward(self, sample: Tensor) -> Tensor:
        return self.psi * sample.squeeze(1)


def discriminator_step_loss(kind: str, penalty: str, slope: Slope, fake: Tensor) -> Tensor:
    real = torch.zeros_like(fake).requires_grad_()
    fake = fake.detach().requires_grad_()
    real_logits, fake_logits = slope(real), slope(fake)
    loss = discriminator_loss(kind, real_logits, fake_logits)
    if penalty == "r1":
        return loss + r1_penalty(real_logits, real, 1.0)
    if penalty == "r2":
        return loss + r2_penalty(fake_logits, fake, 1.0)
    if penalty == "wgan_gp":
        between = interpolate(real, fake, torch.full((len(real),), 0.5))
        return loss + gradient_penalty(slope(between), between, 1.0)
    return loss


def distances(kind: str, penalty: str, simultaneous: bool, start: float) -> Tensor:
    """||(theta, psi)|| before every step of gradient descent and after the last one, from (start, start)."""
    point, slope = Point(start), Slope(start)
    latents = torch.zeros(3, 1)
    path = [torch.stack([point.theta.detach().clone(), slope.psi.detach().clone()])]
    for _ in range(STEPS):
        fake = point(latents)
        (of_point,) = torch.autograd.grad(generator_loss(kind, slope(fake)), point.theta)
        if not simultaneous:
            with torch.no_grad():
                point.theta -= LEARNING_RATE * of_point
            fake = point(latents)
        (of_slope,) = torch.autograd.grad(discriminator_step_loss(kind, penalty, slope, fake), slope.psi)
        with torch.no_grad():
            slope.psi -= LEARNING_RATE * of_slope
            if simultaneous:
                point.theta -= LEARNING_RATE * of_point
        path.append(torch.stack([point.theta.detach().clone(), slope.psi.detach().clone()]))
    return torch.stack(path).flatten(1).norm(dim=1)


both = pytest.mark.parametrize("simultaneous", [True, False], ids=["simultaneous", "alternating"])


@both
@pytest.mark.parametrize("start", [1.0, 0.05])
@pytest.mark.parametrize("kind", ["minimax", "wasserstein"])
def test_without_a_penalty_it_goes_round_the_equilibrium(kind, start, simultaneous):
    distance = distances(kind, "none", simultaneous, start)
    assert distance[-100:].min() > 0.95 * distance[0]
    if simultaneous:  # and away from it
        assert (distance.diff() > 0).all() and distance[-1] > 1.25 * distance[0]


@both
def test_the_non_saturating_loss_alone_does_not_arrive_either(simultaneous):
    """From afar it comes nearer, ever more slowly; near the equilibrium it goes round like the others."""
    far = distances("non_saturating", "none", simultaneous, 1.0)
    assert far[-1] > 0.25 * far[0]
    assert far[:100].max() - far[100] > 4 * (far[-101] - far[-1])
    near = distances("non_saturating", "none", simultaneous, 0.05)
    assert near[-100:].min() > 0.95 * near[0]
    assert not simultaneous or near[-1] > 1.25 * near[0]


@both
@pytest.mark.parametrize("start", [1.0, 0.05])
@pytest.mark.parametrize("penalty", ["r1", "r2"])
@pytest.mark.parametrize("kind", ["minimax", "non_saturating", "wasserstein"])
def test_with_a_zero_centred_penalty_it_converges(kind, penalty, start, simultaneous):
    distance = distances(kind, penalty, simultaneous, start)
    assert distance[-1] < 1e-4 * distance[0]


@both
def test_with_the_penalty_of_wgan_gp_it_does_not_converge(simultaneous):
    """The norm of the gradient is to be 1, which it is not at the equilibrium."""
    assert distances("wasserstein", "wgan_gp", simultaneous, 1.0)[-100:].min() > 0.5
