"""Priors of latents against slow formulas."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.losses.latent_prior import check_prior, sample_prior


def draws(count: int, latent_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, latent_dim, generator=generator), torch.rand(count, generator=generator)


def test_the_gaussian_is_the_numbers_themselves():
    normal, uniform = draws(5, 3)
    assert torch.equal(sample_prior("gaussian", normal, uniform, 10), normal)


@pytest.mark.parametrize("num_components", [1, 3, 10])
def test_a_component_is_a_turned_gaussian_on_the_ring(num_components):
    normal, uniform = draws(50, 4)
    latents = sample_prior("mixture", normal, uniform, num_components)
    for z, n, u in zip(latents.tolist(), normal.tolist(), uniform.tolist(), strict=True):
        ray = complex(math.cos(t := 2 * math.pi * int(u * num_components) / num_components), math.sin(t))
        point = 4 * ray + n[0] * ray + 0.25 * n[1] * ray * 1j
        assert z == pytest.approx([point.real, point.imag, n[2], n[3]], abs=1e-5)


def test_components_are_equally_likely_and_lie_apart():
    normal, uniform = draws(40_000, 2)
    latents = sample_prior("mixture", normal, uniform, 10)
    turn = torch.atan2(latents[:, 1], latents[:, 0]) / (2 * math.pi) * 10
    share = torch.bincount(turn.round().long() % 10, minlength=10) / 40_000
    assert share.tolist() == pytest.approx([0.1] * 10, abs=0.01)
    assert ((turn - turn.round()).abs() > 0.4).float().mean() < 0.02


def test_the_ends_of_the_unit_interval_are_the_first_and_the_last_component():
    latents = sample_prior("mixture", torch.zeros(2, 2), torch.tensor([0.0, 1.0]), 4)
    torch.testing.assert_close(latents, torch.tensor([[4.0, 0.0], [0.0, -4.0]]), atol=1e-5, rtol=0)


def test_half_precision_keeps_its_type_and_the_components():
    normal, uniform = draws(50, 3)
    half = sample_prior("mixture", normal.bfloat16(), uniform, 10)
    assert half.dtype == torch.bfloat16
    exact = sample_prior("mixture", normal.bfloat16().float(), uniform, 10)
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("swiss_roll", 2, 10), "prior 'swiss_roll' is unknown; choose one of: gaussian, mixture"),
        (("mixture", 2, 0), "num_components must be at least 1, got 0"),
        (("mixture", 1, 10), "prior 'mixture' needs a latent_dim of at least 2, got 1"),
    ],
)
def test_impossible_priors(arguments, message):
    with pytest.raises(UserError, match=message):
        check_prior(*arguments)
    check_prior("gaussian", 1, 10)


def test_options_are_named_as_such():
    with pytest.raises(UserError, match=r"^--prior 'mixture' needs a --latent_dim of at least 2, got 1$"):
        check_prior("mixture", 1, 10, prefix="--")
    with pytest.raises(UserError, match=r"^--num_components must be at least 1, got 0$"):
        check_prior("mixture", 2, 0, prefix="--")
