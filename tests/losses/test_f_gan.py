"""f-GAN's bounds against the divergences they bound, computed from the generator functions f."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels.losses.f_gan import DIVERGENCES
from hf_genmodels.losses.gan import GAN_LOSSES, discriminator_loss

# f of table 1, written with u log u only where u > 0
F = {
    "kl": lambda u: u * math.log(u),
    "reverse_kl": lambda u: -math.log(u),
    "pearson": lambda u: (u - 1) ** 2,
    "squared_hellinger": lambda u: (math.sqrt(u) - 1) ** 2,
    "js": lambda u: -(u + 1) * math.log((1 + u) / 2) + u * math.log(u),
}
# two densities on four points
DATA, FAKES = [0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.3, 0.5]


def bound(name, v):
    """E T(data) - E f*(T(fakes)), minus the discriminator's loss, with one v for each point."""
    loss = GAN_LOSSES[f"f_{name}"]
    return -sum(p * loss.real(x) + q * loss.fake(x) for p, q, x in zip(DATA, FAKES, v, strict=True))


@pytest.mark.parametrize("name", F)
def test_the_best_bound_is_the_divergence(name):
    """Of a discriminator that is free at each point; nothing is above it."""
    v = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([v], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -bound(name, v)
        loss.backward()
        return loss

    optimizer.step(closure)
    divergence = sum(q * F[name](p / q) for p, q in zip(DATA, FAKES, strict=True))
    assert bound(name, v).item() == pytest.approx(divergence, rel=1e-6)
    assert bound(name, v.detach() + torch.tensor([0.1, -0.1, 0.2, 0.1])).item() < divergence
    # T = f'(p / q), which grows with the ratio
    step = 1e-6
    slopes = [(F[name](p / q + step) - F[name](p / q - step)) / (2 * step) for p, q in zip(DATA, FAKES, strict=True)]
    assert DIVERGENCES[name].activation(v).tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-6)
    above = [x > DIVERGENCES[name].boundary for x in v.tolist()]
    assert above == [p > q for p, q in zip(DATA, FAKES, strict=True)]


@pytest.mark.parametrize("name", F)
def test_the_conjugate_is_the_supremum_over_u(name):
    """f*(t) = sup t u - f(u), on a fine grid of u."""
    divergence = DIVERGENCES[name]
    v = torch.tensor([-1.2, -0.3, 0.0, 0.4, 0.9], dtype=torch.float64)
    u = [math.exp(step / 500) for step in range(-3000, 3000)]
    for t, found in zip(divergence.activation(v).tolist(), divergence.conjugate(v).tolist(), strict=True):
        # the supremum of "pearson" may lie at u below 0, where its f goes on
        grid = [-x for x in u] + u if name == "pearson" else u
        assert found == pytest.approx(max(t * x - F[name](x) for x in grid), abs=1e-4)


def test_js_is_the_cross_entropy_less_log_4():
    real, fake = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    js, minimax = (discriminator_loss(kind, real, fake).item() for kind in ("f_js", "minimax"))
    assert js == pytest.approx(minimax - math.log(4), rel=1e-5)


def test_exponentials_go_on_as_tangents():
    v = torch.tensor([19.0, 23.0], dtype=torch.float64, requires_grad=True)
    value = DIVERGENCES["squared_hellinger"].conjugate(v)
    assert value.tolist() == pytest.approx([math.exp(19) - 1, 4 * math.exp(20) - 1])
    (slope,) = torch.autograd.grad(value.sum(), v)
    assert slope.tolist() == pytest.approx([math.exp(19), math.exp(20)])
