"""The adversarial autoencoder's losses against slow formulas, its two priors, and what it keeps of a saved model."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from hf_genmodels.families.aae import AAEArguments, build, reload
from hf_genmodels.losses.latent_prior import sample_prior
from hf_genmodels.objectives.aae import AAEObjective
from hf_genmodels.training.arguments import parse
from tests.testing_utils.adversarial_objectives import (
    DCGAN,
    IMAGES_16,
    MLP,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
    slow_adversarial_terms,
    slow_mean_squared_error,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

CODES: dict[str, Any] = {"latent_hidden_dims": [6]}
MIXTURE: dict[str, Any] = {"prior": "mixture", "num_components": 3}
CASES: list[tuple[Any, dict[str, Any]]] = [
    (IMAGES, MLP | CODES),
    (VECTORS, MLP | CODES | MIXTURE),
    (IMAGES_16, DCGAN | CODES | {"prior": "mixture"}),
]


def objective_of(data=IMAGES, **options) -> AAEObjective:
    torch.manual_seed(0)
    return build(AAEArguments(**CODES | options), data)


def components(options: dict[str, Any]) -> int:
    return options.get("num_components", 10)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_losses(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    encoder, decoder, discriminator = (objective.networks[n] for n in ("encoder", "decoder", "discriminator"))
    image = batch["image"]
    losses = phase_losses(objective, "reconstruction", batch)
    decoded = decoder(encoder(image).mean).sample
    squares = [(a - b) ** 2 for a, b in zip(decoded.flatten(), image.flatten(), strict=True)]
    assert_same_loss(losses["loss"], sum(squares) / 5, objective, ("encoder", "decoder"))

    losses = phase_losses(objective, "regularisation", batch)
    codes = encoder(image).mean
    expected = slow_adversarial_terms("non_saturating", [], list(discriminator(codes).logits))[0]
    assert_same_loss(losses["loss"], expected, objective, ("encoder",))

    losses = phase_losses(objective, "discriminator", batch)
    noise = seeded_noise()
    normal = noise.normal((5, 3), like=image)
    prior = sample_prior(
        options.get("prior", "gaussian"), normal, noise.uniform((5,), like=image), components(options)
    )
    on_prior, on_codes = list(discriminator(prior).logits), list(discriminator(codes.detach()).logits)
    expected = slow_adversarial_terms("non_saturating", on_prior, on_codes)[1]
    assert_same_loss(losses["loss"], expected, objective, ("discriminator",))
    right = [float(d > 0) for d in on_prior] + [float(d < 0) for d in on_codes]
    assert losses["accuracy"].item() == pytest.approx(sum(right) / 10)


def test_codes_come_to_follow_the_prior():
    objective = objective_of(VECTORS, architecture="mlp", hidden_dims=[16], latent_dim=1, latent_hidden_dims=[32])
    objective.networks["encoder"].to_mean.bias.data.fill_(4.0)
    batch = make_batch(VECTORS, count=200)
    optimizers = {n: torch.optim.Adam(m.parameters(), lr=0.01) for n, m in objective.networks.items()}
    for step in range(150):
        for phase in objective.phases[1:]:
            (name,) = phase.trains
            loss = phase_losses(objective, phase.name, batch, seed=step)["loss"]
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
    with torch.no_grad():
        assert abs(objective.networks["encoder"](batch["image"]).mean.mean().item()) < 2


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_held_out_error(data):
    objective, batch = objective_of(data, **MLP), make_batch(data)
    with torch.no_grad():
        figures = objective.evaluate(objective.networks, batch, torch.Generator())
        made = objective.networks["decoder"](objective.networks["encoder"](batch["image"]).mean).sample
    assert figures.keys() == {"mse"}
    assert figures["mse"].tolist() == pytest.approx(slow_mean_squared_error(made, batch["image"]), rel=1e-4)


@pytest.mark.parametrize(("data", "options"), [(IMAGES, {}), (VECTORS, MIXTURE)])
def test_pictures_and_watched_samples(data, options):
    objective, batch = objective_of(data, **MLP, **options), make_batch(data)
    pipeline, prior = objective.pipeline(objective.networks), options.get("prior", "gaussian")
    assert pipeline.config.value_scale == data.value_scale
    assert (pipeline.config.prior, pipeline.config.num_components) == (prior, components(options))
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    expected = pipeline(batch_size=5, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert torch.equal(pictures["samples"], expected)
    if data.is_image:
        pairs = pictures["reconstructions"]
        torch.testing.assert_close(pairs[::2], (batch["image"] + 1) / 2)
        torch.testing.assert_close(pairs[1::2], pipeline.reconstruct(pairs[::2], output_type="pt").images)
    with torch.no_grad():
        watched = objective.watched_samples(objective.networks, 7, torch.Generator().manual_seed(3))
        generator = torch.Generator().manual_seed(3)
        normal, uniform = torch.randn(7, 3, generator=generator), torch.rand(7, generator=generator)
        latents = sample_prior(prior, normal, uniform, components(options))
        torch.testing.assert_close(watched, objective.networks["decoder"](latents).sample)


def test_options_shape_the_networks():
    objective = objective_of(IMAGES_16, **DCGAN, latent_hidden_dims=[5, 4])
    config = objective.networks["discriminator"].config
    assert (config.in_channels, config.sample_size, config.hidden_dims) == (3, None, (5, 4))
    assert objective.networks["encoder"].log_std is None
    assert objective.networks["decoder"].config.width == objective.networks["encoder"].config.width == 2
    plain = build(AAEArguments(**MLP), IMAGES).networks["discriminator"].config
    assert plain.hidden_dims == (1000, 1000)


def test_no_normalisation_of_a_discriminator_of_codes():
    with refused("--discriminator_norm"):
        parse(["--dataset_name", "x", "--output_dir", "y", "--discriminator_norm", "batch"], AAEArguments, "")


def test_only_the_discriminator_has_a_learning_rate_of_its_own():
    objective = objective_of(**MLP, discriminator_learning_rate=0.003)
    assert objective.param_groups("discriminator")[0]["lr"] == 0.003
    assert "lr" not in objective.param_groups("encoder")[0] | objective.param_groups("decoder")[0]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (IMAGES, MLP | {"num_components": 4}, "--num_components has no meaning with --prior gaussian; leave it out"),
        (IMAGES, MLP | MIXTURE | {"num_components": 0}, "--num_components must be at least 1, got 0"),
        (IMAGES, MLP | MIXTURE | {"latent_dim": 1}, "--prior 'mixture' needs a --latent_dim of at least 2, got 1"),
        (IMAGES, MLP | {"latent_hidden_dims": [0]}, "--latent_hidden_dims must be at least 1, got 0"),
        (IMAGES, MLP | {"hidden_dims": [0]}, "--hidden_dims must be at least 1, got 0"),
        (IMAGES, MLP | {"latent_dim": 0}, "--latent_dim must be at least 1"),
        (VECTORS, DCGAN, "--architecture dcgan needs images, but builtin:toy2d has vectors"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        objective_of(data, **options)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_from_a_saved_model(data, options, tmp_path):
    first = objective_of(data, **options)
    folder = save_run(first, tmp_path, "output")
    args = AAEArguments()
    again = reload(folder, args, data)
    assert_same_networks(again, first)
    expected = options | {"num_components": components(options) if "prior" in options else None}
    assert {name: getattr(args, name) for name in expected} == expected
    with refused(r"--latent_dim cannot be changed with .*; the saved network has 3"):
        reload(folder, AAEArguments(latent_dim=9), data)
    with refused("--num_components cannot be changed with"):
        reload(folder, AAEArguments(prior=args.prior, num_components=7), data)
    with refused("--discriminator_learning_rate must be positive"):
        reload(folder, AAEArguments(discriminator_learning_rate=0.0), data)
    with refused("the pretrained network takes samples of shape"):
        reload(folder, AAEArguments(), VECTORS if data.is_image else IMAGES)


def test_the_networks_of_a_checkpoint_take_the_prior_that_is_asked_for(tmp_path):
    first = objective_of(**MLP, **MIXTURE)
    folder = save_run(first, tmp_path, "checkpoint")
    again = reload(folder, AAEArguments(**MIXTURE), IMAGES)
    assert_same_networks(again, first)
    assert (again.prior, again.num_components) == ("mixture", 3)


def test_a_pipeline_without_a_prior_is_another_familys(tmp_path):
    folder = save_run(objective_of(**MLP), tmp_path, "output")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace('"prior"', '"other"'))
    with refused("names no prior, so this is no adversarial autoencoder"):
        reload(folder, AAEArguments(), IMAGES)
