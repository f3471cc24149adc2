"""Noise of the global batch, and the checks that families share."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from hf_genmodels import VAE, UserError
from hf_genmodels.checks import check_minimums
from hf_genmodels.families.base import adopt_saved_options, check_labels, check_shape
from hf_genmodels.objectives.base import Noise
from tests.testing_utils.objectives import IMAGES, VECTORS


@pytest.mark.parametrize("name", ["normal", "uniform"])
@pytest.mark.parametrize("num_shares", [1, 2, 3])
def test_the_shares_of_the_noise_make_up_the_single_draw(name, num_shares):
    rows = 12 // num_shares
    like = torch.zeros(1)
    noises = [Noise(3, share, num_shares) for share in range(num_shares)]
    whole = Noise(3)
    for shape in ((4,), (2, 3)):
        parts = [getattr(noise, name)((rows, *shape), like) for noise in noises]
        assert torch.equal(torch.cat(parts), getattr(whole, name)((12, *shape), like))


def test_noise_has_the_distribution_that_its_name_says():
    noise = Noise(0)
    normal, uniform = noise.normal((50_000,), torch.zeros(1)), noise.uniform((50_000,), torch.zeros(1))
    assert normal.mean().item() == pytest.approx(0, abs=0.02) and normal.std().item() == pytest.approx(1, abs=0.02)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.002)


def test_noise_takes_the_type_of_what_it_is_for():
    assert Noise(0).normal((2, 3), torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_labels_that_an_option_needs():
    assert check_labels(IMAGES, "--anything") == 3
    with pytest.raises(UserError, match="--anything needs labels, but builtin:toy2d has none"):
        check_labels(VECTORS, "--anything")


@pytest.mark.parametrize("value", [-0.5, float("nan")])
def test_options_below_their_minimum(value):
    check_minimums(SimpleNamespace(beta=0.0), beta=0)
    with pytest.raises(UserError, match=f"--beta must be at least 0, got {value}"):
        check_minimums(SimpleNamespace(beta=value), beta=0)


def test_saved_networks_for_other_data():
    network = VAE(sample_size=8, latent_dim=2, block_out_channels=(4,))
    check_shape(network, IMAGES)
    message = r"takes samples of shape \(1, 8, 8\), builtin:toy2d has \(2,\)"
    with pytest.raises(UserError, match=message):
        check_shape(network, VECTORS)


@dataclass
class Options:
    width: int = 8
    widths: list[int] = field(default_factory=lambda: [1, 2])
    levels: int | None = None
    rate: float = 0.5


def test_options_of_a_saved_network_are_taken_over():
    options = Options(widths=[3], rate=0.25)
    adopt_saved_options(options, {"width": 4, "widths": [3], "levels": 7})
    assert options == Options(width=4, widths=[3], levels=7, rate=0.25)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 5}, "--width cannot be changed with --pretrained_model_name_or_path; the saved network has 4"),
        ({"widths": [9]}, "--widths cannot be changed with .*; the saved network has 3 6"),
        ({"levels": 9}, "--levels cannot be changed with .*; the saved network has none"),
    ],
)
def test_options_that_contradict_a_saved_network(given, message):
    options = Options(**given)
    with pytest.raises(UserError, match=message):
        adopt_saved_options(options, {"width": 4, "widths": [3, 6], "levels": None})
    assert options == Options(**given)
