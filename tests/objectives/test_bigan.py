"""BiGAN's losses against sums over pairs; its figures, pictures and options."""

from __future__ import annotations

import copy
import dataclasses
import re

import pytest
import torch

from hf_genmodels.families.bigan import BiGANArguments, build, reload
from hf_genmodels.objectives.bigan import BiGANObjective
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
    slow_adversarial_terms,
    slow_mean_squared_error,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

CASES = [
    (VECTORS, MLP),
    (IMAGES, MLP),
    (IMAGES, DCGAN | {"discriminator_norm": "instance"}),
    (IMAGES_16, DCGAN | {"norm_statistics": "batch"}),
]


def objective_of(data=VECTORS, **options) -> BiGANObjective:
    torch.manual_seed(0)
    return build(BiGANArguments(**(options or MLP)), data)


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options"), CASES)
def test_losses_of_both_phases(data, options):
    objective = objective_of(data, **options)
    networks, batch, cache = objective.networks, make_batch(data), {}
    image, judge = batch["image"], networks["discriminator"]
    losses = phase_losses(objective, "discriminator", batch, cache, seed=9)
    z = seeded_noise(9).normal((5, 3), like=image)
    fake, code = networks["generator"](z).sample.detach(), networks["encoder"](image).mean.detach()
    of_data, of_fakes = judge(image, code).logits, judge(fake, z).logits
    expected = slow_adversarial_terms("non_saturating", list(of_data), list(of_fakes))[1]
    assert_same_loss(losses["loss"], expected, objective, ("discriminator",))
    assert 0 <= losses["accuracy"].item() <= 1
    assert_only_trains(objective, "discriminator", batch)

    actual = phase_losses(objective, "generator", batch, cache)["loss"]
    z = seeded_noise().normal((5, 3), like=image)
    fake, code = networks["generator"](z).sample, networks["encoder"](image).mean
    of_data, of_fakes = judge(image, code).logits, judge(fake, z).logits
    # the data's pairs play the fakes, and the other way round
    swapped = slow_adversarial_terms("non_saturating", list(of_fakes), list(of_data))[1]
    by_hand = (torch.log(1 + torch.exp(-of_fakes)) + torch.log(1 + torch.exp(of_data))).mean()
    assert swapped.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert_same_loss(actual, swapped, objective, ("generator", "encoder"))
    for name in ("generator", "encoder"):
        gradients = torch.autograd.grad(actual, list(networks[name].parameters()), retain_graph=True)
        assert sum(g.abs().sum() for g in gradients) > 0
    assert not cache


def test_the_encoders_running_averages_are_those_of_the_data():
    objective, batch = objective_of(IMAGES_16, **DCGAN), make_batch(IMAGES_16)
    encoder, cache = objective.networks["encoder"], {}
    alone = copy.deepcopy(encoder)
    for phase in objective.phases:
        phase_losses(objective, phase.name, batch, cache)
        alone(batch["image"])
    torch.testing.assert_close(encoder.state_dict(), alone.state_dict())


def test_phases_and_learning_rates():
    objective = objective_of(VECTORS, **MLP | {"discriminator_learning_rate": 0.3})
    assert [(phase.name, phase.trains, phase.updates, phase.reuse_batch) for phase in objective.phases] == [
        ("discriminator", ("discriminator",), 1, False),
        ("generator", ("generator", "encoder"), 1, True),
    ]
    rates = {name: objective.param_groups(name)[0].get("lr") for name in objective.networks}
    assert rates == {"encoder": None, "generator": None, "discriminator": 0.3}
    assert BiGANObjective.ema == ("encoder", "generator")


def test_dense_networks_for_images():
    """Also of 28 pixels, which no convolutions here lead to."""
    for data in (IMAGES, dataclasses.replace(IMAGES, size=(28, 28))):
        networks = objective_of(data, **MLP | {"hidden_dims": [6, 4]}).networks
        for network in networks.values():
            assert (network.config.sample_size, tuple(network.config.hidden_dims)) == (data.sample_size, (6, 4))
            assert not any(isinstance(module, torch.nn.Conv2d) for module in network.modules())
        image = make_batch(data)["image"]
        assert networks["discriminator"](image, networks["encoder"](image).mean).logits.shape == (5,)


# inference -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options"), CASES)
def test_held_out_figures_and_pictures(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    networks, image = objective.networks, batch["image"]
    for network in networks.values():
        network.eval()
    with torch.no_grad():
        figures = objective.evaluate(networks, batch, torch.Generator())
        made = networks["generator"](networks["encoder"](image).mean).sample
        watched = objective.watched_samples(networks, 4, torch.Generator().manual_seed(1))
        latents = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(watched, networks["generator"](latents).sample)
    assert figures.keys() == {"mse"}
    assert figures["mse"].tolist() == pytest.approx(slow_mean_squared_error(made, image), rel=1e-4)

    pipeline = objective.pipeline(networks)
    assert pipeline.config.value_scale == data.value_scale
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    assert pictures["samples"].shape == image.shape
    if data.is_image:
        torch.testing.assert_close(pictures["reconstructions"][::2], (image + 1) / 2)
        torch.testing.assert_close(pictures["reconstructions"][1::2], (made + 1) / 2)


# saved networks and options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["output", "checkpoint"])
@pytest.mark.parametrize(("data", "options"), [*CASES, (IMAGES_32, DCGAN | {"architecture": "avae"})])
def test_from_saved_networks(data, options, layout, tmp_path):
    first = objective_of(data, **options)
    save_run(first, tmp_path, layout)
    for given in (BiGANArguments(), BiGANArguments(**options)):
        assert_same_networks(reload(tmp_path, given, data), first)
        built = BiGANArguments(**options)
        shapes = ("architecture", "latent_dim", "width", "hidden_dims", "norm_statistics")
        assert [getattr(given, name) for name in shapes] == [getattr(built, name) for name in shapes]
        norm = "none" if options["architecture"] == "mlp" else options.get("discriminator_norm", "batch")
        assert given.discriminator_norm == norm


def test_saved_networks_that_do_not_fit(tmp_path):
    objective = objective_of()
    save_run(objective, tmp_path, "output")
    for options, message in (
        ({"latent_dim": 4}, "--latent_dim cannot be changed with --pretrained.*; the saved network has 3"),
        ({"width": 4}, "--width cannot be changed with .*; the saved network has none"),
        (
            {"discriminator_norm": "layer"},
            "--discriminator_norm cannot be changed with .*; the saved network has none",
        ),
        ({"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive, got 0.0"),
    ):
        with refused(message):
            reload(tmp_path, BiGANArguments(**options), VECTORS)
    with refused("takes samples of shape"):
        reload(tmp_path, BiGANArguments(), IMAGES)
    place = tmp_path / "training_networks" / "discriminator"
    objective.networks["encoder"].save_pretrained(str(place))
    with refused("holds a MLPEncoder; discriminator must be BiGANDiscriminator"):
        reload(tmp_path, BiGANArguments(), VECTORS)
    place.rename(tmp_path / "gone")
    with refused("holds no discriminator"):
        reload(tmp_path, BiGANArguments(), VECTORS)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (VECTORS, DCGAN, "--architecture dcgan needs images, but builtin:toy2d has vectors"),
        (VECTORS, MLP | {"hidden_dims": []}, "at least one width in hidden_dims"),
        (VECTORS, MLP | {"latent_dim": 0}, "--latent_dim must be at least 1"),
        (VECTORS, MLP | {"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive"),
        (VECTORS, MLP | {"width": 2}, "--width has no meaning with --architecture mlp"),
        (
            VECTORS,
            MLP | {"discriminator_norm": "batch"},
            "--discriminator_norm has no meaning with --architecture mlp",
        ),
        (IMAGES_16, DCGAN | {"hidden_dims": [2]}, "--hidden_dims has no meaning with --architecture dcgan"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        build(BiGANArguments(**options), data)
