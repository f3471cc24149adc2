"""Glow: a bijection whose latents are standard normal under its priors."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels.blocks.flows import ActNorm
from hf_genmodels.loading import load_network
from hf_genmodels.models.glow import Glow
from tests.testing_utils.flows import FlowTesterMixin, perturb
from tests.testing_utils.refusals import refused

TINY = {"in_channels": 1, "sample_size": 4, "num_flow_steps": 1, "num_scales": 2, "hidden_channels": 4}


class TestGlow(FlowTesterMixin):
    model_class = Glow
    configs = (
        {**TINY, "in_channels": 3, "num_scales": 1},
        {**TINY, "sample_size": 8, "num_flow_steps": 2, "num_classes": 3, "hidden_channels": 8},
        {**TINY, "sample_size": 8, "learned_prior": False},
        {**TINY, "sample_size": 6, "num_scales": 1, "hidden_channels": 8},
        {**TINY, "sample_size": 8, "context_dim": 3, "hidden_channels": 8},
    )


def tiny_glow(**config) -> Glow:
    torch.manual_seed(0)
    return Glow(**{**TINY, **config})


def images(size: int = 4, batch: int = 64) -> torch.Tensor:
    return torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(1)) - 0.5


@torch.no_grad()
def test_initialisation_standardises_what_leaves_each_norm():
    network = tiny_glow(num_flow_steps=2)
    perturb(network, 0.1)
    sample = images()
    seen = {}
    norms = [module for module in network.modules() if isinstance(module, ActNorm)]
    for norm in norms:
        norm.register_forward_hook(lambda norm, _, output: seen.update({norm: output[0]}))
    network.initialize(sample, None, lambda mean: mean)
    assert len(seen) == len(norms) == 4
    for norm in norms:
        # the hook sees what the norm gave after it had been set
        torch.testing.assert_close(seen[norm].mean((0, 2, 3)), torch.zeros(len(norm.bias)), atol=1e-4, rtol=0)
        torch.testing.assert_close(
            seen[norm].var((0, 2, 3), correction=0), torch.ones(len(norm.bias)), atol=1e-3, rtol=0
        )
        assert norm.reduce is None


@torch.no_grad()
def test_initialisation_is_saved_and_not_repeated(tmp_path):
    network, sample = tiny_glow(), images()
    network.initialize(sample, None, lambda mean: mean)
    network.save_pretrained(str(tmp_path))
    reloaded = load_network(Glow, tmp_path)
    before = reloaded(sample).log_likelihood
    assert torch.equal(network(sample).log_likelihood, before)
    reloaded.initialize(3 * sample + 1, None, lambda mean: mean)
    assert torch.equal(reloaded(sample).log_likelihood, before)


@torch.no_grad()
def test_steps_give_the_same_while_they_are_initialised_and_after():
    network, sample = tiny_glow(num_flow_steps=2), images()
    perturb(network, 0.1)
    seen = []
    handle = network.register_forward_hook(lambda *call: seen.append(call[2]))
    network.initialize(sample, None, lambda mean: mean)
    handle.remove()
    output = network(sample)
    torch.testing.assert_close(output.latents, seen[0].latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.log_likelihood, seen[0].log_likelihood)


@torch.no_grad()
def test_latents_are_those_of_the_last_scale_first():
    """Without couplings and priors, each scale squeezes and multiplies by a matrix; the last halves leave in turn."""
    network, stays = tiny_glow(sample_size=8, num_scales=3), images(size=8, batch=2)
    latents = network(stays).latents
    parts = []
    for index, scale in enumerate(network.scales):
        if index > 0:
            stays, leaves = stays.tensor_split(2, dim=1)
            parts.insert(0, leaves.flatten(1))
        stays = torch.nn.functional.pixel_unshuffle(stays, 2)
        stays = torch.einsum("ij,bjhw->bihw", scale.layers[1].conv.weight(), stays)
    torch.testing.assert_close(latents, torch.cat([stays.flatten(1), *parts], dim=1))


@torch.no_grad()
def test_priors_are_gaussians():
    """The density is that of the same flow without priors, under N(mean, std^2) of each part of its latents."""
    config = {"num_classes": 2}
    network = tiny_glow(**config)
    perturb(network, 0.3)
    plain = tiny_glow(learned_prior=False)
    plain.load_state_dict(
        {name: value for name, value in network.state_dict().items() if name in plain.state_dict()}, strict=True
    )
    sample, labels = images(batch=3), torch.tensor([0, 1, 1])
    bare = plain(sample)
    top, leaving = bare.latents.tensor_split((8,), dim=1)
    # what stays at the first scale says what the rest is like
    stays, _ = plain.scales[1].inverse(top.view(3, 8, 1, 1))
    log_scale, shift = network.split_priors[0].scale_and_shift(stays)
    priors = [
        torch.distributions.Normal(
            network.prior_mean[labels].flatten(1), network.prior_log_std[labels].exp().flatten(1)
        ),
        torch.distributions.Normal((-shift * (-log_scale).exp()).flatten(1), (-log_scale).exp().flatten(1)),
    ]
    expected = bare.log_det + sum(prior.log_prob(z).sum(1) for prior, z in zip(priors, (top, leaving), strict=True))
    output = network(sample, labels)
    torch.testing.assert_close(output.log_likelihood, expected)
    # zeros are the means, so that lower temperatures move samples towards them
    zeros, _ = network.inverse(torch.zeros(3, network.dim), labels)
    torch.testing.assert_close(
        plain(zeros).latents[:, :8].view(3, 8, 1, 1), network.prior_mean[labels], rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_classes_change_the_density():
    network, sample = tiny_glow(num_classes=3), images(batch=3)
    same = network(sample, torch.tensor([0, 0, 0])).log_likelihood
    assert torch.equal(network(sample, torch.tensor([0, 1, 2])).log_likelihood, same)  # all start as N(0, I)
    perturb(network, 0.1)
    same = network(sample, torch.tensor([0, 0, 0])).log_likelihood
    other = network(sample, torch.tensor([0, 1, 2])).log_likelihood
    assert same[0] == other[0] and (same[1:] != other[1:]).all()


@torch.no_grad()
def test_mixed_precision_keeps_the_bijection_in_float32():
    network, sample = tiny_glow(num_flow_steps=2), images(batch=4)
    perturb(network, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(sample)
        restored, log_det = network.inverse(output.latents)
    assert output.log_likelihood.dtype == output.log_det.dtype == log_det.dtype == torch.float32
    assert output.log_likelihood.isfinite().all()
    # rounding is that of the couplings' networks, which is the same in both directions up to what they are given
    torch.testing.assert_close(restored, sample, rtol=0, atol=2e-2)
    torch.testing.assert_close(output.log_likelihood, network(sample).log_likelihood, rtol=1e-2, atol=0.1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"sample_size": 28, "num_scales": 3},
            "images of size 28 do not divide by 8, which 3 squeezes need",
        ),
        ({"sample_size": 7, "num_scales": 1}, "images of size 7 do not divide by 2, which 1 squeezes need"),
        ({"num_scales": 0}, "num_scales must be at least 1, got 0"),
        ({"num_flow_steps": 0}, "num_flow_steps must be at least 1, got 0"),
        ({"scale_limit": 0.0}, "scale_limit must be positive and finite, got 0.0"),
        ({"num_classes": 3, "learned_prior": False}, "num_classes needs learned_prior"),
    ],
)
def test_impossible_configurations_are_one_line_errors(config, message):
    with refused(message):
        tiny_glow(**config)
