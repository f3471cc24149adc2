"""The error at known pixels against loops over entries; masks of an exact number of pixels."""

from __future__ import annotations

import math
import random

import pytest
import torch
from scipy.stats import beta, chisquare, poisson

from hf_genmodels import UserError
from hf_genmodels.losses.constraints import constraint_loss, sample_mask
from tests.testing_utils.refusals import refused


def example(channels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sample, values = (torch.rand(3, channels, 4, 5, generator=generator) * 2 - 1 for _ in range(2))
    return sample, values, (torch.rand(3, 1, 4, 5, generator=generator) < 0.3).float()


def slow_loss(sample, values, mask, noise):
    """Value and gradient, one known entry after the other."""
    count = sum(mask.flatten().tolist()) * sample.shape[1]
    total, gradient = 0.0, torch.zeros_like(sample)
    for image in range(len(sample)):
        for row in range(sample.shape[2]):
            for column in range(sample.shape[3]):
                if mask[image, 0, row, column] == 0:
                    continue
                for channel in range(sample.shape[1]):
                    place = (image, channel, row, column)
                    difference = sample[place].item() - values[place].item()
                    total += (difference**2 if noise == "gaussian" else abs(difference)) / count
                    slope = 2 * difference if noise == "gaussian" else math.copysign(1, difference)
                    gradient[place] = slope / count
    return total, gradient


@pytest.mark.parametrize("noise", ["gaussian", "laplacian"])
@pytest.mark.parametrize("channels", [1, 3])
def test_loss_is_the_mean_error_of_the_known_entries(channels, noise):
    sample, values, mask = example(channels)
    assert len({*mask.sum((1, 2, 3)).tolist()}) > 1, "of the batch, not of each image"
    sample.requires_grad_()
    loss = constraint_loss(sample, values, mask, noise)
    (gradient,) = torch.autograd.grad(loss, sample)
    value, slow_gradient = slow_loss(sample.detach(), values, mask, noise)
    assert loss.item() == pytest.approx(value, rel=1e-6)
    torch.testing.assert_close(gradient, slow_gradient)


def slow_minus_log(noise: str, image: float, value: float) -> float:
    """By scipy, of one entry in [-1, 1]."""
    x, y = (image + 1) / 2, (value + 1) / 2
    if noise == "poisson":
        return -poisson.logpmf(round(20 * y + 0.5), 20 * x + 0.5)
    mean, share = (255 * x + 0.5) / 256, (255 * y + 0.5) / 256
    return -beta.logpdf(share, 7 * mean, 7 * (1 - mean))


OPTIONS = {"poisson": {"peak": 20.0}, "beta": {"concentration": 7.0}}


@pytest.mark.parametrize("noise", ["poisson", "beta"])
@pytest.mark.parametrize("channels", [1, 3])
def test_counts_and_shares_have_the_log_probabilities_of_scipy(channels, noise):
    sample, values, mask = (each.double() for each in example(channels))
    if noise == "poisson":  # scipy knows whole counts only: k = 20 y + 1/2
        values = (torch.round(20 * (values + 1) / 2).clamp(min=1) - 0.5) / 20 * 2 - 1
    sample[0, 0, 0, 0], sample[1, 0, 0, 0] = -1, 1  # black and white are possible
    mask[:2, 0, 0, 0] = 1
    sample.requires_grad_()
    loss = constraint_loss(sample, values, mask, noise, **OPTIONS[noise])
    known = mask.expand_as(values) > 0
    pairs = list(zip(sample[known].tolist(), values[known].tolist(), strict=True))
    assert loss.item() == pytest.approx(sum(slow_minus_log(noise, *pair) for pair in pairs) / len(pairs), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, sample)
    assert gradient[~known].abs().sum() == 0
    for slope, (image, value) in zip(gradient[known].tolist(), pairs, strict=True):
        ends = [slow_minus_log(noise, image + step, value) for step in (-1e-5, 1e-5)]
        assert slope * len(pairs) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("noise", ["poisson", "beta"])
def test_no_value_of_an_8_bit_image_is_impossible(noise):
    levels = torch.linspace(-1, 1, 256)
    sample, values = levels[:, None].expand(256, 256), levels.expand(256, 256)
    sample = sample[None, None].clone().requires_grad_()
    loss = constraint_loss(sample, values[None, None], torch.ones(1, 1, 256, 256), noise)
    (gradient,) = torch.autograd.grad(loss, sample)
    assert loss.isfinite() and gradient.isfinite().all()
    step = gradient[0, 0].sign()  # of x against y: towards y, wherever x is not within three levels of it
    far = (sample - values)[0, 0].abs() > 3 / 127
    assert (step == (sample - values)[0, 0].sign())[far].all()


@pytest.mark.parametrize("noise", ["poisson", "beta"])
def test_unknown_values_leave_counts_and_shares_alone(noise):
    sample, values, mask = example(1)
    damaged = torch.where(mask > 0, values, -9)
    assert torch.equal(constraint_loss(sample, damaged, mask, noise), constraint_loss(sample, values, mask, noise))


def test_a_known_value_of_zero_counts_and_unknown_values_do_not():
    sample = torch.full((1, 1, 2, 2), 0.5)
    mask = torch.tensor([[[[1.0, 0], [0, 1]]]])
    values = torch.tensor([[[[0.0, 9], [-9, 0.5]]]])
    assert constraint_loss(sample, values, mask).item() == pytest.approx(0.125)
    assert constraint_loss(sample.bfloat16(), values, mask).dtype == torch.float32


def test_what_does_not_fit():
    sample, values, mask = example(3)
    with pytest.raises(
        UserError, match="noise 'cauchy' is unknown; choose one of: gaussian, laplacian, poisson, beta"
    ):
        constraint_loss(sample, values, mask, "cauchy")
    with pytest.raises(UserError, match="peak must be above 0, got 0"):
        constraint_loss(sample, values, mask, "poisson", peak=0)
    with pytest.raises(UserError, match="concentration must be above 0, got nan"):
        constraint_loss(sample, values, mask, "beta", concentration=math.nan)
    for wrong in (
        (sample, values[:, :1], mask),
        (sample, values, mask.expand(-1, 3, -1, -1)),
        (sample, values, mask[0]),
    ):
        with refused("do not belong together, expected"):
            constraint_loss(*wrong)


@pytest.mark.parametrize(("share", "known"), [(0.005, 5), (0.0001, 1), (0.5, 512), (1.0, 1024)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_know_exactly_the_asked_share(share, known, dtype):
    uniform = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)).to(dtype)  # bfloat16 has ties
    mask = sample_mask(uniform, share)
    assert mask.shape == uniform.shape and mask.dtype == dtype
    assert ((mask == 0) | (mask == 1)).all()
    assert mask.float().sum((1, 2, 3)).tolist() == [known] * 6
    if known < 1024:
        assert len({tuple(row.tolist()) for row in mask.flatten(1)}) == 6, "each image has its own"


def test_every_set_of_pixels_is_as_likely():
    mask = sample_mask(torch.rand(3000, 1, 2, 3, generator=torch.Generator().manual_seed(0)), 1 / 3)
    pairs = [tuple(row.nonzero().flatten().tolist()) for row in mask.flatten(1)]
    counts = [pairs.count((a, b)) for a in range(6) for b in range(a + 1, 6)]
    assert sum(counts) == 3000 and chisquare(counts).pvalue > 1e-3


def test_the_mask_of_an_image_depends_on_its_numbers_alone():
    numbers = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    order = random.Random(0).sample(range(4), 4)
    assert torch.equal(sample_mask(numbers[order], 0.2), sample_mask(numbers, 0.2)[order])


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_impossible_shares(share):
    with pytest.raises(UserError, match="share of known pixels must be above 0 and at most 1"):
        sample_mask(torch.rand(1, 1, 4, 4), share)


def test_numbers_of_another_shape():
    with pytest.raises(UserError, match=r"made of \(batch, 1, height, width\) numbers, got \(1, 3, 4, 4\)"):
        sample_mask(torch.rand(1, 3, 4, 4), 0.5)
