"""BEGAN's generator and its discriminator, the autoencoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_genmodels import BEGANDiscriminator, BEGANGenerator
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused


class TestBEGANGenerator(AdversarialTesterMixin):
    model_class = BEGANGenerator
    configs = (
        {"latent_dim": 3, "out_channels": 1, "sample_size": 8, "width": 2},
        {"latent_dim": 5, "out_channels": 4, "sample_size": 16, "width": 2},
        {"latent_dim": 3, "out_channels": 2, "sample_size": None, "hidden_dims": (6, 5)},
    )
    inputs = AdversarialTesterMixin.latent_inputs


class TestBEGANDiscriminator(AdversarialTesterMixin):
    model_class = BEGANDiscriminator
    configs = (
        {"in_channels": 1, "sample_size": 8, "latent_dim": 3, "width": 2},
        {"in_channels": 4, "sample_size": 16, "latent_dim": 5, "width": 2},
        {"in_channels": 2, "sample_size": None, "latent_dim": 3, "hidden_dims": (6, 5)},
        {"in_channels": 2, "sample_size": None, "latent_dim": 3, "hidden_dims": ()},
    )
    inputs = AdversarialTesterMixin.image_inputs


def layers(network: nn.Module) -> list[tuple[object, ...]]:
    """All that acts on a batch, in order."""
    rows: list[tuple[object, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.kernel_size, module.padding) == ((3, 3), (1, 1))
            rows.append(("conv", module.in_channels, module.out_channels, module.stride[0]))
        elif isinstance(module, nn.Linear):
            rows.append(("dense", module.in_features, module.out_features))
        elif isinstance(module, nn.Upsample):
            assert module.mode == "nearest"
            rows.append(("up", module.scale_factor))
        elif isinstance(module, nn.ELU):
            rows.append(("elu", module.alpha))
        elif not list(module.children()):
            assert isinstance(module, nn.Flatten | nn.Unflatten), module
    return rows


def conv(channels_in: int, channels_out: int, stride: int = 1) -> list[tuple[object, ...]]:
    return [("conv", channels_in, channels_out, stride), ("elu", 1.0)]


W, C, Z = 2, 3, 5
ENCODER_32 = [
    *conv(C, W),
    *[*conv(W, W), *conv(W, W), *conv(W, W, 2)],
    *[*conv(W, 2 * W), *conv(2 * W, 2 * W), *conv(2 * W, 2 * W, 2)],
    *[*conv(2 * W, 3 * W), *conv(3 * W, 3 * W)],
    ("dense", 8 * 8 * 3 * W, Z),
]
PAIR = [*conv(W, W), *conv(W, W)]
DECODER_32 = [("dense", Z, 8 * 8 * W), *PAIR, ("up", 2.0), *PAIR, ("up", 2.0), *PAIR, ("conv", W, C, 1)]


def test_networks_for_32_pixels_are_those_of_the_figure():
    discriminator = BEGANDiscriminator(latent_dim=Z, width=W)
    assert layers(discriminator) == ENCODER_32 + DECODER_32
    assert layers(BEGANGenerator(latent_dim=Z, width=W)) == DECODER_32


def test_networks_for_8_pixels_do_not_change_the_size():
    discriminator = BEGANDiscriminator(sample_size=8, latent_dim=Z, width=W)
    decoder = [("dense", Z, 8 * 8 * W), *PAIR, ("conv", W, C, 1)]
    assert layers(discriminator) == [*conv(C, W), *PAIR, ("dense", 8 * 8 * W, Z), *decoder]
    assert layers(BEGANGenerator(sample_size=8, latent_dim=Z, width=W)) == decoder


def test_networks_for_vectors_are_dense_and_the_encoder_mirrors_the_decoder():
    elu = ("elu", 1.0)
    decoder = [("dense", 3, 6), elu, ("dense", 6, 5), elu, ("dense", 5, 2)]
    encoder = [("dense", 2, 5), elu, ("dense", 5, 6), elu, ("dense", 6, 3)]
    assert layers(BEGANGenerator(3, 2, None, hidden_dims=(6, 5))) == decoder
    assert layers(BEGANDiscriminator(2, None, 3, hidden_dims=(6, 5))) == encoder + decoder


@pytest.mark.parametrize("size", [8, 16, 64])
def test_every_power_of_two_leads_to_an_8x8_map_and_back(size):
    latents = torch.randn(2, Z)
    image = BEGANGenerator(latent_dim=Z, sample_size=size, width=W)(latents).sample
    assert image.shape == (2, 3, size, size)
    reconstruction = BEGANDiscriminator(latent_dim=Z, sample_size=size, width=W)(image).reconstruction
    assert reconstruction.shape == image.shape


def test_images_and_reconstructions_are_unbounded():
    generator, discriminator = (build(sample_size=8, width=W) for build in (BEGANGenerator, BEGANDiscriminator))
    for network in (generator, discriminator):
        nn.init.constant_(network.decoder[-1].bias, 10)
    image = generator(torch.randn(2, 64)).sample
    assert image.min() > 5
    assert discriminator(image).reconstruction.min() > 5


def test_a_discriminator_learns_to_reconstruct_points():
    torch.manual_seed(0)
    discriminator = BEGANDiscriminator(2, None, 2, hidden_dims=(16,))
    points = torch.randn(64, 2)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.01)
    losses = []
    for _ in range(150):
        loss = (discriminator(points).reconstruction - points).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BEGANGenerator(sample_size=28), "BEGANGenerator: sample_size 28 is no power of two of at least 8"),
        (lambda: BEGANDiscriminator(sample_size=4), "BEGANDiscriminator: sample_size 4 is no power of two"),
        (lambda: BEGANGenerator(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: BEGANDiscriminator(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: BEGANGenerator(width=0), "width must be at least 1, got 0"),
        (lambda: BEGANDiscriminator(width=0), "width must be at least 1, got 0"),
        (lambda: BEGANGenerator(sample_size=None, hidden_dims=(4, 0)), "hidden_dims must be at least 1, got 4 0"),
        (
            lambda: BEGANGenerator(sample_size=8, width=2)(torch.zeros(2, 5)),
            r"takes latents of shape \(batch, 64\), got \(2, 5\)",
        ),
        (
            lambda: BEGANDiscriminator(sample_size=8, width=2)(torch.zeros(2, 1, 8, 8)),
            r"takes samples of shape \(3, 8, 8\), got \(1, 8, 8\)",
        ),
        (lambda: BEGANDiscriminator(2, None)(torch.zeros(2, 3)), r"takes samples of shape \(2,\), got \(3,\)"),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
