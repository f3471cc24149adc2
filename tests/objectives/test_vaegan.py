"""VAE/GAN's losses against sums over samples and features; its figures, pictures and options."""

from __future__ import annotations

import copy
import dataclasses
import math
import re

import pytest
import torch

from hf_genmodels.families.vaegan import VAEGANArguments, build, reload
from hf_genmodels.objectives.vaegan import VAEGANObjective, feature_error
from tests.testing_utils.adversarial_objectives import (
    DCGAN,
    IMAGES_16,
    IMAGES_32,
    MLP,
    assert_only_trains,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
    slow_kl,
    slow_mean_squared_error,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

IMAGES_64 = dataclasses.replace(IMAGES, size=(64, 64))
CASES = [
    (VECTORS, MLP | {"beta": 1.5, "feature_weight": 0.2}),
    (IMAGES, MLP | {"feature_weight": 0.0}),
    (IMAGES_16, DCGAN | {"feature_block": 0, "feature_weight": 0.3}),
    (IMAGES_16, DCGAN | {"discriminator_norm": "layer"}),
]


def objective_of(data=VECTORS, **options) -> VAEGANObjective:
    torch.manual_seed(0)
    objective = build(VAEGANArguments(**(options or MLP)), data)
    with torch.no_grad():
        objective.networks["encoder"].log_std.copy_(torch.tensor([-0.7, -0.2, 0.3]))
    return objective


def slow_feature_error(real, made):
    total = torch.zeros(())
    for one, other in zip(real, made, strict=True):
        total = total + 0.5 * ((one.flatten() / math.sqrt(2) - other.flatten() / math.sqrt(2)) ** 2).sum()
    return total / len(real)


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options"), CASES)
def test_loss_of_the_discriminator(data, options):
    objective = objective_of(data, **options)
    networks, batch, cache = objective.networks, make_batch(data), {}
    image, judge, noise = batch["image"], networks["discriminator"], seeded_noise(9)
    eps, prior = noise.normal((5, 3), like=image), noise.normal((5, 3), like=image)
    losses = phase_losses(objective, "discriminator", batch, cache, 9)
    assert not cache
    encoded = networks["encoder"](image)
    z = encoded.mean + torch.exp(encoded.log_std) * eps
    decoded, sampled = (networks["decoder"](latents).sample.detach() for latents in (z, prior))
    expected = torch.zeros(())
    for real, reconstructed, made in zip(*(judge(x).logits for x in (image, decoded, sampled)), strict=True):
        expected = expected - torch.log(torch.sigmoid(real)) / 5
        expected = expected - (torch.log(1 - torch.sigmoid(reconstructed)) + torch.log(1 - torch.sigmoid(made))) / 5
    assert_same_loss(losses["loss"], expected, objective, ("discriminator",))
    right = (judge(image).logits > 0).float().mean() / 2
    right = right + (torch.cat([judge(decoded).logits, judge(sampled).logits]) < 0).float().mean() / 2
    assert losses["accuracy"].item() == pytest.approx(right.item())
    assert_only_trains(objective, "discriminator", batch)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_losses_of_encoder_and_decoder(data, options):
    objective, args = objective_of(data, **options), VAEGANArguments(**options)
    networks, batch, cache = objective.networks, make_batch(data), {}
    image, judge, decoder = batch["image"], networks["discriminator"], networks["decoder"]
    eps, prior = (seeded_noise(seed).normal((5, 3), like=image) for seed in (7, 8))

    losses = phase_losses(objective, "encoder", batch, cache, 7)
    encoded = networks["encoder"](image)
    z = encoded.mean + torch.exp(encoded.log_std) * eps
    error = slow_feature_error(judge(image).features.detach(), judge(decoder(z).sample).features)
    kl = slow_kl(encoded.mean, encoded.log_std).mean()
    assert losses["feature_error"].item() == pytest.approx(error.item(), rel=1e-4)
    assert losses["kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert_same_loss(losses["loss"], error + args.beta * kl, objective, ("encoder",))
    assert cache.keys() == {"latents", "real_features"} and not any(x.requires_grad for x in cache.values())

    z = z.detach()
    scramble(networks["encoder"])  # its update comes in between, and the decoder sees the codes from before
    losses = phase_losses(objective, "decoder", batch, cache, 8)
    assert not cache
    decoded, sampled = decoder(z).sample, decoder(prior).sample
    error = slow_feature_error(judge(image).features.detach(), judge(decoded).features)
    adversarial = -sum(judge(decoded).logits) / 5 - sum(judge(sampled).logits) / 5
    expected = args.feature_weight * error + adversarial
    assert losses["adversarial"].item() == pytest.approx(adversarial.item(), rel=1e-4, abs=1e-6)
    assert_same_loss(losses["loss"], expected, objective, ("decoder",))


def scramble(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


def test_feature_error_in_half_precision_is_summed_in_float32():
    real, made = torch.randn(2, 5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).bfloat16().unbind()
    assert feature_error(real, made).dtype == torch.float32
    assert feature_error(real, made).item() == pytest.approx(slow_feature_error(real.float(), made.float()).item())


def test_the_encoders_running_averages_are_those_of_the_data():
    objective, batch, cache = objective_of(IMAGES_16, **DCGAN), make_batch(IMAGES_16), {}
    encoder = objective.networks["encoder"]
    alone = copy.deepcopy(encoder)
    for phase in objective.phases:
        phase_losses(objective, phase.name, batch, cache)
    for _ in range(2):  # the discriminator's phase encodes the data too
        alone(batch["image"])
    torch.testing.assert_close(encoder.state_dict(), alone.state_dict())


def test_phases_and_learning_rates():
    objective = objective_of(VECTORS, **MLP | {"discriminator_learning_rate": 0.3})
    assert [(p.name, p.trains, p.updates, p.reuse_batch) for p in objective.phases] == [
        ("discriminator", ("discriminator",), 1, False),
        ("encoder", ("encoder",), 1, True),
        ("decoder", ("decoder",), 1, True),
    ]
    rates = {name: objective.param_groups(name)[0].get("lr") for name in objective.networks}
    assert rates == {"encoder": None, "decoder": None, "discriminator": 0.3}
    assert any(p is objective.networks["encoder"].log_std for p in objective.param_groups("encoder")[0]["params"])
    assert VAEGANObjective.ema == ("encoder", "decoder")


@pytest.mark.parametrize(
    ("data", "options", "block", "shape"),
    [
        (IMAGES_64, DCGAN, -2, (8, 8, 8)),
        (IMAGES_64, DCGAN | {"architecture": "avae"}, -2, (8, 8, 8)),
        (IMAGES_32, DCGAN | {"architecture": "avae"}, -1, (16, 4, 4)),
        (IMAGES_16, DCGAN, -1, (4, 4, 4)),
        (IMAGES_64, DCGAN | {"feature_block": 1}, 1, (4, 16, 16)),
    ],
)
def test_features_are_those_of_the_authors_block(data, options, block, shape):
    """4 times the width at 8x8 for 64 pixels, 8 times the width at 4x4 for 32."""
    discriminator = objective_of(data, **options).networks["discriminator"]
    assert discriminator.config.feature_block == block
    assert discriminator(make_batch(data)["image"]).features.shape == (5, *shape)


# inference -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options"), CASES)
def test_held_out_figures_and_pictures(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    networks, image = objective.networks, batch["image"]
    for network in networks.values():
        network.eval()
    with torch.no_grad():
        figures = objective.evaluate(networks, batch, torch.Generator())
        encoded = networks["encoder"](image)
        made = networks["decoder"](encoded.mean).sample
        watched = objective.watched_samples(networks, 4, torch.Generator().manual_seed(1))
        latents = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(watched, networks["decoder"](latents).sample)
        kl = slow_kl(encoded.mean, encoded.log_std)
    assert figures.keys() == {"mse", "kl"}
    assert figures["mse"].tolist() == pytest.approx(slow_mean_squared_error(made, image), rel=1e-4)
    assert figures["kl"].tolist() == pytest.approx(kl.tolist(), rel=1e-4)

    pipeline = objective.pipeline(networks)
    assert pipeline.config.value_scale == data.value_scale
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    assert pictures["samples"].shape == image.shape
    if data.is_image:
        torch.testing.assert_close(pictures["reconstructions"][::2], (image + 1) / 2)
        torch.testing.assert_close(pictures["reconstructions"][1::2], (made + 1) / 2)


# saved networks and options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["output", "checkpoint"])
@pytest.mark.parametrize(("data", "options"), CASES)
def test_from_saved_networks(data, options, layout, tmp_path):
    first = objective_of(data, **options)
    save_run(first, tmp_path, layout)
    for given in (VAEGANArguments(beta=2.0), VAEGANArguments(**options | {"beta": 2.0})):
        again, built = reload(tmp_path, given, data), VAEGANArguments(**options)
        assert_same_networks(again, first)
        shapes = ("architecture", "latent_dim", "width", "hidden_dims", "norm_statistics")
        assert [getattr(given, name) for name in shapes] == [getattr(built, name) for name in shapes]
        config = first.networks["discriminator"].config
        assert (given.discriminator_norm, given.feature_block) == (
            config.get("norm", "none"),
            config.get("feature_block"),
        )
        assert again.beta == 2


def test_saved_networks_that_do_not_fit(tmp_path):
    save_run(objective_of(), tmp_path / "mlp", "output")
    save_run(objective_of(IMAGES_16, **DCGAN), tmp_path / "dcgan", "checkpoint")
    for folder, options, message in (
        ("mlp", {"latent_dim": 4}, "--latent_dim cannot be changed with --pretrained.*; the saved network has 3"),
        ("mlp", {"feature_block": 0}, "--feature_block cannot be changed with .*; the saved network has none"),
        ("mlp", {"beta": -1.0}, "--beta must be at least 0"),
        ("mlp", {"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive, got 0.0"),
        ("dcgan", {"feature_block": 0}, "--feature_block cannot be changed with .*; the saved network has -1"),
        ("dcgan", {"hidden_dims": [8]}, "--hidden_dims cannot be changed with .*; the saved network has none"),
    ):
        data = VECTORS if folder == "mlp" else IMAGES_16
        with refused(message):
            reload(tmp_path / folder, VAEGANArguments(**options), data)
    with refused("takes samples of shape"):
        reload(tmp_path / "mlp", VAEGANArguments(), IMAGES)
    (tmp_path / "dcgan" / "discriminator").rename(tmp_path / "gone")
    with refused("holds no discriminator"):
        reload(tmp_path / "dcgan", VAEGANArguments(), IMAGES_16)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (VECTORS, MLP | {"beta": -0.1}, "--beta must be at least 0"),
        (VECTORS, MLP | {"feature_weight": -0.1}, "--feature_weight must be at least 0"),
        (VECTORS, MLP | {"latent_dim": 0}, "--latent_dim must be at least 1"),
        (VECTORS, MLP | {"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive"),
        (VECTORS, MLP | {"feature_block": -1}, "--feature_block has no meaning with --architecture mlp; leave it out"),
        (IMAGES_16, DCGAN | {"feature_block": 2}, "there is no block 2, only 2 blocks"),
        (IMAGES, DCGAN | {"feature_block": -2}, "there is no block -2, only 1 blocks"),
        (VECTORS, DCGAN, "--architecture dcgan needs images, but builtin:toy2d has vectors"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        build(VAEGANArguments(**options), data)
