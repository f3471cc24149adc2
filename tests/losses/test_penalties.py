"""Gradient penalties against Jacobians, and their own gradients against finite differences, in float64."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from hf_genmodels import DCGANDiscriminator, MLPDiscriminator
from hf_genmodels.losses.penalties import (
    gradient_penalty,
    interpolate,
    r1_penalty,
    r2_penalty,
    roth_regulariser,
    zero_centred_penalty,
)
from tests.testing_utils.refusals import refused

SHAPES = [(3,), (2, 4, 4)]


class Critic(nn.Module):
    """Smooth, so that finite differences are good to many digits; conditional where labels are given."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4), nn.Tanh(), nn.Linear(4, 1))
        self.embedding = nn.Embedding(3, math.prod(shape))

    def forward(self, sample, labels=None):
        logits = self.layers(sample).squeeze(1)
        return logits if labels is None else logits + (self.embedding(labels) * sample.flatten(1)).sum(1)


@pytest.fixture(params=SHAPES, ids=["vectors", "images"])
def setting(request):
    """A critic in float64, data and fakes."""
    torch.manual_seed(0)
    critic = Critic(request.param).double()
    real, fake = torch.randn(2, 4, *request.param, dtype=torch.float64).unbind()
    return critic, real.requires_grad_(), fake.requires_grad_()


def squared_norms(critic, sample):
    """||grad d(x)||^2 of each sample alone."""
    norms = []
    for index in range(len(sample)):
        jacobian = torch.autograd.functional.jacobian(critic, sample[index : index + 1].detach())
        norms.append(jacobian.square().sum().item())
    return norms


def penalties(critic, real, fake):
    """Each penalty and the slow value of it."""
    inside = interpolate(real, fake, torch.tensor([0.0, 0.3, 0.7, 1.0]))
    of_inside, of_real, of_fake = (squared_norms(critic, sample) for sample in (inside, real, fake))
    d_real, d_fake = critic(real), critic(fake)
    roth = sum((1 - 1 / (1 + math.exp(-d))) ** 2 * n for d, n in zip(d_real.tolist(), of_real, strict=True))
    roth += sum((1 / (1 + math.exp(-d))) ** 2 * n for d, n in zip(d_fake.tolist(), of_fake, strict=True))
    return {
        "wgan_gp": (
            gradient_penalty(critic(inside), inside, 7.0),
            7 * sum((math.sqrt(n) - 1) ** 2 for n in of_inside) / 4,
        ),
        "zero_centred": (zero_centred_penalty(critic(inside), inside, 7.0), 7 * sum(of_inside) / 4),
        "r1": (r1_penalty(d_real, real, 3.0), 1.5 * sum(of_real) / 4),
        "r2": (r2_penalty(d_fake, fake, 3.0), 1.5 * sum(of_fake) / 4),
        "roth": (roth_regulariser(d_real, real, d_fake, fake, 3.0), 1.5 * roth / 4),
    }


NAMES = ("wgan_gp", "zero_centred", "r1", "r2", "roth")


@pytest.mark.parametrize("name", NAMES)
def test_penalty_is_that_of_the_jacobian(name, setting):
    actual, expected = penalties(*setting)[name]
    assert actual.dtype == torch.float64
    assert actual.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_conditional_critics_are_closed_over_their_labels(name, setting):
    critic, real, fake = setting
    labels = torch.tensor([2, 0, 1, 0])
    actual = penalties_of(partial(critic, labels=labels), real, fake)[name].item()
    slow = [
        penalties_of(partial(critic, labels=labels[[i]]), one, other)[name].item()
        for i, (one, other) in enumerate(rows(real, fake))
    ]
    assert actual == pytest.approx(sum(slow) / 4, rel=1e-9)
    assert actual != pytest.approx(penalties_of(critic, real, fake)[name].item(), rel=1e-3)


def rows(real, fake):
    """One sample at a time, ready to be differentiated by."""
    for index in range(len(real)):
        yield tuple(sample[index : index + 1].detach().requires_grad_() for sample in (real, fake))


def penalties_of(critic, real, fake):
    inside = interpolate(real, fake, torch.full((len(real),), 0.5))
    return {
        "wgan_gp": gradient_penalty(critic(inside), inside),
        "zero_centred": zero_centred_penalty(critic(inside), inside),
        "r1": r1_penalty(critic(real), real),
        "r2": r2_penalty(critic(fake), fake),
        "roth": roth_regulariser(critic(real), real, critic(fake), fake),
    }


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name, setting):
    critic, real, fake = setting
    parameters = [critic.layers[1].weight, critic.layers[1].bias, critic.layers[3].weight]
    gradients = torch.autograd.grad(penalties(critic, real, fake)[name][0], parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for index in (0, parameter.numel() - 1):
            entry = parameter.detach().view(-1)[index]
            original, sides = entry.item(), []
            for shift in (1e-5, -1e-5):
                entry.fill_(original + shift)
                sides.append(penalties(critic, real, fake)[name][1])
            entry.fill_(original)
            wanted = (sides[0] - sides[1]) / 2e-5
            assert gradient.view(-1)[index].item() == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_interpolates_weigh_the_data_and_can_be_differentiated_by():
    real, fake = torch.full((3, 1, 2, 2), 2.0), torch.full((3, 1, 2, 2), -2.0, requires_grad=True)
    mixed = interpolate(real, fake, torch.tensor([0.0, 0.25, 1.0]))
    assert mixed[:, 0, 0, 0].tolist() == [-2, -1, 2]
    assert mixed.is_leaf and mixed.requires_grad


def test_a_critic_with_a_slope_of_one_has_no_penalty():
    direction = torch.tensor([0.6, 0.8])
    sample = torch.randn(5, 2, requires_grad=True)
    assert gradient_penalty(sample @ direction, sample).item() == pytest.approx(0, abs=1e-10)
    assert gradient_penalty(sample @ direction * 3, sample, 1.0).item() == pytest.approx(4)
    assert r1_penalty(sample @ direction * 3, sample, 1.0).item() == pytest.approx(4.5)


def test_a_critic_that_says_one_thing_has_a_penalty_and_a_finite_gradient():
    scale = torch.zeros(2, requires_grad=True)
    sample = torch.randn(5, 2, requires_grad=True)
    penalty = gradient_penalty((sample * scale).sum(1), sample, 1.0)
    assert penalty.item() == 1
    assert torch.autograd.grad(penalty, scale)[0].tolist() == [0, 0]


def test_the_norm_of_a_pack_is_that_of_its_samples_together():
    torch.manual_seed(0)
    critic = MLPDiscriminator(in_channels=3, hidden_dims=(4,), activation="tanh", packing=2).double()
    sample = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(critic(sample).logits, sample, 1.0)

    def packed(pack):
        return critic.head.linear(critic.layers(pack)).squeeze(1)

    norms = squared_norms(packed, sample.reshape(3, 6))
    assert penalty.item() == pytest.approx(sum((math.sqrt(n) - 1) ** 2 for n in norms) / 3, rel=1e-9)


@pytest.mark.parametrize("norm", ["none", "instance", "layer", "spectral"])
def test_penalties_train_a_whole_discriminator(norm):
    torch.manual_seed(0)
    critic = DCGANDiscriminator(in_channels=1, sample_size=16, width=2, norm=norm)
    real, fake = torch.randn(2, 3, 1, 16, 16).unbind()
    sample = interpolate(real, fake, torch.rand(3))
    loss = gradient_penalty(critic(sample).logits, sample)
    loss.backward()
    # the last bias moves all scores alike, and other biases act through the slopes of LeakyReLU alone
    weights = {name: p.grad for name, p in critic.named_parameters() if "bias" not in name}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in weights.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: interpolate(torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(2)),
            r"real \(2, 3\), fake \(4, 3\) and weight \(2,\) do not agree",
        ),
        (lambda: interpolate(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)), "one number a sample"),
        (
            lambda: r1_penalty(torch.zeros(3), torch.zeros(4, 2)),
            r"logits of shape \(3,\) do not belong to samples of shape \(4, 2\)",
        ),
        (lambda: r2_penalty(torch.zeros(()), torch.zeros(4, 2)), "one logit a sample, or one a pack"),
        (lambda: gradient_penalty(torch.zeros(0), torch.zeros(0, 2)), r"logits of shape \(0,\)"),
        (
            lambda: roth_regulariser(torch.zeros(2), torch.zeros(2, 2), torch.zeros(2, 1, 3, 3), torch.zeros(2, 2)),
            "needs one logit a sample, got fake_logits",
        ),
    ],
)
def test_misuse_is_a_one_line_error(call, message):
    with refused(message):
        call()
