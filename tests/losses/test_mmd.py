"""The maximum mean discrepancy against sums over pairs of samples, and its gradient against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels.losses.mmd import mmd_loss
from tests.testing_utils.refusals import refused

BANDWIDTHS = (0.3, 1.0)


def slow_kernel(one, other):
    squares = [(a - b) ** 2 for a, b in zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)]
    distance = sum(squares) / len(squares)
    return sum(math.exp(-distance / (2 * width**2)) for width in BANDWIDTHS)


def slow_mmd(real, fake):
    def pairs(sample):
        found = [slow_kernel(a, b) for i, a in enumerate(sample) for j, b in enumerate(sample) if i != j]
        return sum(found) / len(found)

    between = [slow_kernel(a, b) for a in real for b in fake]
    return pairs(real) + pairs(fake) - 2 * sum(between) / len(between)


@pytest.mark.parametrize("shape", [(2,), (3, 2, 2)])
def test_value_and_gradient(shape):
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, *shape, generator=generator, dtype=torch.float64) for n in (5, 4))
    fake[1] = fake[0]  # equal samples: the distance has no slope there
    fake.requires_grad_()
    loss = mmd_loss(real, fake, BANDWIDTHS)
    assert loss.item() == pytest.approx(slow_mmd(real, fake.detach()), rel=1e-8)
    (gradient,) = torch.autograd.grad(loss, fake)
    for index in range(fake.numel()):
        shift = torch.zeros(fake.numel(), dtype=torch.float64)
        shift[index] = 1e-5
        up, down = (slow_mmd(real, fake.detach() + s.reshape(fake.shape)) for s in (shift, -shift))
        assert gradient.flatten()[index].item() == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_it_is_without_bias():
    """Two samples of one distribution differ by nothing on average: of 400 pairs the mean is within three errors."""
    generator = torch.Generator().manual_seed(0)
    values = torch.stack(
        [mmd_loss(*torch.randn(2, 6, 2, generator=generator).unbind(), BANDWIDTHS) for _ in range(400)]
    )
    assert abs(values.mean().item()) < 3 * values.std().item() / 20
    assert (values < 0).any()


def test_half_precision_samples_are_compared_in_float32():
    sample = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert mmd_loss(sample, sample + 1, BANDWIDTHS).dtype == torch.float32


@pytest.mark.parametrize(("real", "fake"), [((1, 2), (4, 2)), ((4, 2), (1, 2)), ((4, 2), (4, 3))])
def test_samples_that_make_no_pairs(real, fake):
    with refused("mmd_loss needs two samples or more of each and of one shape"):
        mmd_loss(torch.zeros(real), torch.zeros(fake), BANDWIDTHS)
