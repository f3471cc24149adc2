"""Encoder and decoder of a trained VAE as two networks."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import VAE, VAEDecoder, VAEEncoder
from hf_genmodels.models.vae_parts import split_vae
from tests.testing_utils.adversarial import AdversarialTesterMixin

TINY = {"latent_dim": 2, "block_out_channels": (4,)}


class TestVAEEncoder(AdversarialTesterMixin):
    model_class = VAEEncoder
    configs = (
        {"in_channels": 1, "sample_size": 8, **TINY},
        {"in_channels": 2, "sample_size": None, "latent_dim": 3, "architecture": "mlp", "hidden_dims": (8,)}
        | {"block_out_channels": (), "norm": "none"},
    )
    inputs = AdversarialTesterMixin.image_inputs


class TestVAEDecoder(AdversarialTesterMixin):
    model_class = VAEDecoder
    configs = (
        {"out_channels": 1, "sample_size": 8, **TINY},
        {"out_channels": 3, "sample_size": 8, "likelihood": "categorical", "num_levels": 5, **TINY},
    )
    inputs = AdversarialTesterMixin.latent_inputs


@pytest.mark.parametrize(
    "config",
    [
        {"in_channels": 3, "sample_size": 8, "latent_dim": 3, "block_out_channels": (4, 8), "likelihood": "bernoulli"},
        {"in_channels": 1, "sample_size": 8, "architecture": "mlp", "hidden_dims": (6,), "decoder_hidden_dims": (5,)},
        {"in_channels": 1, "sample_size": 8, "likelihood": "categorical", "num_levels": 4, "norm": "group"}
        | {"block_out_channels": (4,)},
        {"in_channels": 2, "sample_size": None, "architecture": "mlp", "hidden_dims": (4,), "learn_std": True},
    ],
)
def test_parts_do_what_the_whole_does(config) -> None:
    torch.manual_seed(0)
    vae = VAE(**config).eval()
    encoder, decoder = split_vae(vae)
    shape = (vae.config.in_channels, *((8, 8) if vae.config.sample_size else ()))
    sample = torch.rand(3, *shape) * 2 - 1
    with torch.no_grad():
        mean, log_std = vae.posterior_parameters(sample)
        encoded = encoder(sample)
        assert torch.equal(encoded.mean, mean) and torch.equal(encoded.log_std, log_std)
        assert torch.equal(decoder(mean).sample, vae.decode(mean))
    count = sum(each.numel() for part in (encoder, decoder) for each in part.parameters())
    assert count == sum(each.numel() for name, each in vae.named_parameters() if name != "log_scale")
