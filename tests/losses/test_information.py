"""Bounds of mutual information against slow formulas and against the information itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hf_genmodels.losses.information import categorical_information, gaussian_information


def slow_categorical(logits: Tensor, categories: Tensor) -> Tensor:
    """log K + log softmax(logits)[category], one sample after the other."""
    total = torch.zeros((), dtype=logits.dtype)
    for row, category in zip(logits, categories.tolist(), strict=True):
        total = total + torch.log(torch.exp(row[category]) / sum(torch.exp(each) for each in row))
    return math.log(logits.shape[1]) + total / len(logits)


def slow_gaussian(mean: Tensor, log_std: Tensor, codes: Tensor) -> Tensor:
    """Log-density ratio of N(mean, std^2) to the entropy of N(0, 1), one code after the other."""
    total = torch.zeros((), dtype=mean.dtype)
    for m, s, c in zip(mean.flatten(), log_std.flatten(), codes.flatten(), strict=True):
        variance = torch.exp(s) ** 2
        density = torch.exp(-((c - m) ** 2) / (2 * variance)) / torch.sqrt(2 * math.pi * variance)
        total = total + torch.log(density) + math.log(math.sqrt(2 * math.pi * math.e))
    return total / len(mean)


def test_against_slow_formulas_and_their_gradients():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 4, generator=generator, requires_grad=True)
    categories = torch.randint(4, (7,), generator=generator)
    pairs = [(categorical_information(logits, categories), slow_categorical(logits, categories), (logits,))]
    mean, log_std = (torch.randn(7, 3, generator=generator, requires_grad=True) for _ in range(2))
    codes = torch.randn(7, 3, generator=generator, requires_grad=True)
    of_codes = (mean, log_std, codes)
    pairs.append((gaussian_information(*of_codes), slow_gaussian(*of_codes), of_codes))
    for ours, slow, inputs in pairs:
        assert ours.item() == pytest.approx(slow.item(), rel=1e-5)
        for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(slow, inputs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_category_that_is_told_has_all_its_information_and_a_guess_none():
    categories = torch.arange(8) % 4
    assert categorical_information(torch.zeros(8, 4), categories).item() == pytest.approx(0, abs=1e-6)
    told = 100 * torch.nn.functional.one_hot(categories, 4).float()
    assert categorical_information(told, categories).item() == pytest.approx(math.log(4), rel=1e-6)
    assert categorical_information(told.half(), categories).dtype == torch.float32


def test_with_the_posterior_the_bound_of_a_noisy_code_is_its_information():
    # x = c + noise of std 0.5: the posterior is N(c's regression on x, 0.2), the information 1/2 log(1 + 1/0.25)
    codes, noise = torch.randn(2, 200_000, 1, generator=torch.Generator().manual_seed(1)).double()
    mean = (codes + 0.5 * noise) / 1.25
    log_std = torch.full_like(mean, 0.5 * math.log(0.2))
    found = gaussian_information(mean, log_std, codes).item()
    assert found == pytest.approx(0.5 * math.log(5), abs=0.01)
    assert gaussian_information(mean, log_std + 0.3, codes).item() < found
