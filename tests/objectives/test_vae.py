"""The VAE's loss against torch.distributions, its warm-up, free bits and held-out figures."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from hf_genmodels import UserError
from hf_genmodels.families.vae import BETA_VAE, VAEArguments, build, reload
from hf_genmodels.losses.total_correlation import batch_total_correlation
from hf_genmodels.objectives.vae import VAEObjective
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

MLP = {"architecture": "mlp", "hidden_dims": [8], "latent_dim": 3}


FACTOR = {"tc_weight": 2.0, "tc_estimator": "discriminator", "latent_hidden_dims": [4]}


def objective_of(data=IMAGES, **options) -> VAEObjective:
    torch.manual_seed(0)
    return build(VAEArguments(**MLP | options), data)


def slow_terms(objective: VAEObjective, image: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p(x|z) of each sample and the KL of each sample and dimension."""
    vae = objective.networks["vae"]
    mean, log_std = vae.posterior(vae.trunk(image)).chunk(2, 1)
    posterior = Normal(mean, log_std.exp())
    decoded = vae.decoder(mean + log_std.exp() * noise)
    unit = (image + 1) / 2
    if vae.config.likelihood == "gaussian":
        log_p = Normal(decoded, vae.log_scale.exp()).log_prob(image)
    elif vae.config.likelihood == "bernoulli":
        coin = Bernoulli(logits=decoded)
        log_p = unit * coin.log_prob(torch.ones_like(unit)) + (1 - unit) * coin.log_prob(torch.zeros_like(unit))
    else:
        levels = vae.config.num_levels
        logits = decoded.unflatten(1, (levels, image.shape[1])).movedim(1, -1)
        log_p = Categorical(logits=logits).log_prob((unit * (levels - 1)).round())
    return -log_p.flatten(1).sum(1), kl_divergence(posterior, Normal(0.0, 1.0))


LIKELIHOODS = [
    (IMAGES, {"likelihood": "gaussian"}),
    (IMAGES, {"likelihood": "gaussian", "gaussian_std": 0.2}),
    (IMAGES, {"likelihood": "gaussian", "gaussian_std": 0.4, "learn_std": True}),
    (IMAGES, {"likelihood": "bernoulli"}),
    (IMAGES, {"likelihood": "categorical", "num_levels": 17}),
    (VECTORS, {"likelihood": "gaussian", "gaussian_std": 2.0}),
]


@pytest.mark.parametrize(("data", "options"), LIKELIHOODS)
def test_loss_is_the_negative_elbo_with_beta(data, options):
    objective = objective_of(data, beta=2.5, **options)
    batch = make_batch(data)
    noise = seeded_noise().normal((5, 3), like=batch["image"])
    losses = losses_of(objective, batch)
    nll, kl = slow_terms(objective, batch["image"], noise)
    assert losses["reconstruction_nll"].item() == pytest.approx(nll.mean().item(), rel=1e-5)
    assert losses["kl"].item() == pytest.approx(kl.sum(1).mean().item(), rel=1e-5)
    expected = nll.mean() + 2.5 * kl.sum(1).mean()
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = list(objective.networks["vae"].parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses["loss"], parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sampled_kl_is_of_the_latents_that_are_decoded():
    objective, batch = objective_of(beta=2.0, kl_estimator="sampled"), make_batch(IMAGES)
    noise = seeded_noise().normal((5, 3), like=batch["image"])
    losses = losses_of(objective, batch)
    nll, _ = slow_terms(objective, batch["image"], noise)
    vae = objective.networks["vae"]
    mean, log_std = vae.posterior_parameters(batch["image"])
    latents = mean + log_std.exp() * noise
    kl = (Normal(mean, log_std.exp()).log_prob(latents) - Normal(0.0, 1.0).log_prob(latents)).sum(1).mean()
    assert losses["kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert losses["loss"].item() == pytest.approx((nll.mean() + 2 * kl).item(), rel=1e-5)


@pytest.mark.parametrize(("data", "options"), LIKELIHOODS[1:])
def test_held_out_figures(data, options):
    objective = objective_of(data, beta=9.0, free_bits=2.0, **options)
    batch = make_batch(data)
    with torch.no_grad():
        figures = objective.evaluate(objective.networks, batch, torch.Generator().manual_seed(3))
        draw = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
        nll, kl = slow_terms(objective, batch["image"], draw)
        vae = objective.networks["vae"]
        mean = vae.decode(vae.posterior_parameters(batch["image"])[0])
        error = (mean.clamp(-1, 1) if data.is_image else mean) - batch["image"]
    expected = {
        "reconstruction_nll": nll,
        "kl": kl.sum(1),
        "negative_elbo": nll + kl.sum(1),
        "mse": (error / 2 if data.is_image else error).square().flatten(1).mean(1),
    }
    assert figures.keys() == expected.keys()
    for name, values in expected.items():
        assert figures[name].tolist() == pytest.approx(values.tolist(), rel=1e-4), name


def test_learned_std_is_a_parameter_that_finds_the_residuals():
    objective = objective_of(gaussian_std=0.5, learn_std=True)
    vae, batch = objective.networks["vae"], make_batch(IMAGES)
    assert vae.log_scale.item() == pytest.approx(math.log(0.5))
    losses_of(objective, batch)["loss"].backward()
    noise = seeded_noise().normal((5, 3), like=batch["image"])
    with torch.no_grad():
        squares = (vae(batch["image"], noise).decoded - batch["image"]).square().flatten(1).sum(1)
    # d/d log s of sum((x - m)^2 / (2 s^2) + log s) over the 64 pixels
    assert vae.log_scale.grad.item() == pytest.approx((64 - squares / 0.25).mean().item(), rel=1e-4)
    fixed = objective_of(gaussian_std=0.5).networks["vae"]
    assert "log_scale" in dict(fixed.named_buffers()) and "log_scale" in fixed.state_dict()


def test_beta_warms_up_linearly_with_the_step():
    objective = objective_of(beta=4.0, beta_warmup_steps=10)
    batch = make_batch(IMAGES)
    for step, beta in ((0, 0.0), (1, 0.4), (5, 2.0), (10, 4.0), (1000, 4.0), (3, 1.2)):
        objective.before_step(step)
        losses = losses_of(objective, batch)
        assert losses["loss"].item() == pytest.approx(
            (losses["reconstruction_nll"] + beta * losses["kl"]).item(), rel=1e-5
        )


def test_without_warm_up_beta_is_there_from_the_start():
    objective = objective_of(beta=4.0)
    objective.before_step(0)
    assert objective.beta == 4.0


def test_free_bits_leave_the_reported_kl_alone():
    objective = objective_of(beta=3.0)
    batch = make_batch(IMAGES)
    noise = seeded_noise().normal((5, 3), like=batch["image"])
    nll, kl = slow_terms(objective, batch["image"], noise)
    per_dimension = kl.mean(0)
    minimum = per_dimension.sort().values[:2].mean().item()  # above one dimension, below two
    objective = objective_of(beta=3.0, free_bits=minimum)
    losses = losses_of(objective, batch)
    expected = nll.mean() + 3 * sum(max(value.item(), minimum) for value in per_dimension)
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["kl"].item() == pytest.approx(kl.sum(1).mean().item(), rel=1e-5)
    assert losses["loss"] > losses["reconstruction_nll"] + 3 * losses["kl"]


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_pictures(data):
    objective = objective_of(data)
    batch = make_batch(data)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.config.value_scale == data.value_scale
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    expected = pipeline(batch_size=5, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert torch.equal(pictures.pop("samples"), expected)
    if data.is_image:
        pairs = pictures.pop("reconstructions")
        torch.testing.assert_close(pairs[::2], (batch["image"] + 1) / 2)
        torch.testing.assert_close(pairs[1::2], pipeline.reconstruct(pairs[::2], output_type="pt").images)
    else:
        assert torch.equal(pictures.pop("data"), batch["image"])
    assert not pictures


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_held_out_error_is_that_of_the_pictures_a_pipeline_returns(data):
    objective, batch = objective_of(data), make_batch(data)
    vae = objective.networks["vae"].eval()
    next(layer for layer in reversed(vae.decoder) if isinstance(layer, torch.nn.Linear)).weight.data *= 20
    with torch.no_grad():
        figures = objective.evaluate(objective.networks, batch, torch.Generator())
        assert vae.decode(vae.posterior_parameters(batch["image"])[0]).abs().max() > 1.2
    shown = (batch["image"] + 1) / 2 if data.is_image else batch["image"]
    returned = objective.pipeline(objective.networks).reconstruct(shown, output_type="pt").images
    assert figures["mse"].tolist() == pytest.approx((returned - shown).square().flatten(1).mean(1).tolist(), rel=1e-4)


def test_options_shape_the_network():
    config = objective_of(architecture="conv", block_out_channels=[4, 8], norm="group", likelihood="bernoulli")
    config = config.networks["vae"].config
    assert (config.in_channels, config.sample_size, config.latent_dim) == (1, 8, 3)
    assert (config.block_out_channels, config.norm, config.likelihood) == ((4, 8), "group", "bernoulli")
    assert objective_of(hidden_dims=None).networks["vae"].config.hidden_dims == (512, 256)
    table = build(VAEArguments(architecture="beta_vae"), IMAGES_64).networks["vae"].config
    assert {name: table[name] for name in BETA_VAE} == BETA_VAE


IMAGES_64 = type(IMAGES)("squares", 1, (64, 64), 255.0, None, 10, "2" * 12)
BETA = {"architecture": "beta_vae", "hidden_dims": None}
CATEGORICAL = {"likelihood": "categorical"}


@pytest.mark.parametrize(
    ("value_scale", "given", "levels"),
    [(16.0, None, 17), (255.0, None, 256), (255.0, 8, 8), (65535.0, 256, 256), (1.0, 32, 32), (16.0, 20, 20)],
)
def test_grey_levels_are_those_of_the_data_unless_asked_for(value_scale, given, levels):
    data = dataclasses.replace(IMAGES, value_scale=value_scale)
    assert objective_of(data, **CATEGORICAL, num_levels=given).networks["vae"].config.num_levels == levels


@pytest.mark.parametrize(("value_scale", "found"), [(65535.0, "65536 grey levels"), (1.0, "float values")])
def test_grey_levels_are_not_lost_silently(value_scale, found):
    data = dataclasses.replace(IMAGES, value_scale=value_scale)
    message = f"builtin:digits has {found}, which the categorical decoder would round to 256 levels; --num_levels 256"
    with pytest.raises(UserError, match=message):
        objective_of(data, **CATEGORICAL)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (IMAGES, {"gaussian_std": 0.0}, "gaussian_std must be positive and finite, got 0.0"),
        (IMAGES, {"gaussian_std": float("nan")}, "gaussian_std must be positive and finite, got nan"),
        (IMAGES, {"hidden_dims": [0]}, "hidden_dims must be at least 1, got 0"),
        (IMAGES, {"norm": "none"}, "--norm has no meaning with --architecture mlp; leave it out"),
        (IMAGES, {"block_out_channels": [4]}, "--block_out_channels has no meaning with --architecture mlp"),
        (IMAGES_64, {"architecture": "beta_vae"}, "--hidden_dims has no meaning with --architecture beta_vae"),
        (IMAGES_64, BETA | {"norm": "group"}, "--norm has no meaning with --architecture beta_vae"),
        (IMAGES_64, BETA | {"block_out_channels": [4]}, "--block_out_channels has no meaning with --architecture b"),
        (IMAGES, {"likelihood": "bernoulli", "learn_std": True}, "no meaning with --likelihood bernoulli"),
        (IMAGES, {"likelihood": "categorical", "gaussian_std": 2.0}, "no meaning with --likelihood categorical"),
        (VECTORS, {"likelihood": "bernoulli"}, "needs images in [-1, 1], but builtin:toy2d has vectors"),
        (VECTORS, {"architecture": "conv"}, "needs images, but the data are vectors"),
        (IMAGES, BETA, "resolution 8 is too small for 4 stride-2 blocks"),
        (IMAGES, {"latent_dim": 0}, "--latent_dim must be at least 1"),
        (IMAGES, CATEGORICAL | {"num_levels": 1}, "--num_levels must be at least 2"),
        (IMAGES, {"num_levels": 1}, "--num_levels has no meaning with --likelihood gaussian"),
        (IMAGES, {"beta": -1.0}, "--beta must be at least 0"),
        (IMAGES, {"beta_warmup_steps": -1}, "--beta_warmup_steps must be at least 0"),
        (IMAGES, {"free_bits": -1.0}, "--free_bits must be at least 0"),
        (IMAGES, {"tc_weight": -1.0}, "--tc_weight must be at least 0"),
        (IMAGES, {"tc_estimator": "discriminator"}, "--tc_estimator has no meaning without --tc_weight; leave it out"),
        (IMAGES, {"tc_weight": 1.0, "latent_dim": 1}, "--tc_weight has no meaning with --latent_dim 1, whose total"),
        (IMAGES, FACTOR | {"latent_dim": 1}, "--tc_weight has no meaning with --latent_dim 1, whose total"),
        (IMAGES, {"tc_weight": 1.0, "latent_hidden_dims": [4]}, "no meaning with --tc_estimator minibatch_weighted"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        objective_of(data, **options)


def test_from_a_saved_pipeline(tmp_path):
    first = objective_of(likelihood="bernoulli")
    first.pipeline(first.networks).save_pretrained(tmp_path)
    again = reload(tmp_path, VAEArguments(beta=2.0, free_bits=0.1), IMAGES)
    assert (again.beta, again.free_bits) == (2.0, 0.1)
    assert again.networks["vae"].config.likelihood == "bernoulli"
    for ours, theirs in zip(
        again.networks["vae"].state_dict().values(), first.networks["vae"].state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    with pytest.raises(UserError, match="the pretrained network takes samples of shape"):
        reload(tmp_path, VAEArguments(), IMAGES_64)
    with pytest.raises(UserError, match="--beta must be at least 0"):
        reload(tmp_path, VAEArguments(beta=-1.0), IMAGES)
    for options, message in (
        ({"latent_dim": 50}, "--latent_dim cannot be changed with --pretrained.*; the saved network has 3"),
        ({"likelihood": "categorical"}, "--likelihood cannot be changed with .*; the saved network has bernoulli"),
        ({"learn_std": True}, "--learn_std cannot be changed with .*; the saved network has False"),
        ({"num_levels": 256}, "--num_levels cannot be changed with .*; the saved network has none"),
    ):
        with pytest.raises(UserError, match=message):
            reload(tmp_path, VAEArguments(**options), IMAGES)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (IMAGES, MLP | {"likelihood": "bernoulli"}),
        (IMAGES, MLP | CATEGORICAL | {"num_levels": 17}),
        (IMAGES, {"block_out_channels": [4, 8], "norm": "group", "gaussian_std": 0.3, "learn_std": True}),
        (IMAGES_64, {"architecture": "beta_vae", "latent_dim": 3}),
    ],
)
def test_a_saved_network_is_recorded_as_it_is(data, options, tmp_path):
    first = build(VAEArguments(**options), data)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    for given in (VAEArguments(), VAEArguments(**options)):
        reload(tmp_path, given, data)
        assert {name: getattr(given, name) for name in options} == options
    if data is IMAGES_64:
        assert (given.block_out_channels, given.hidden_dims, given.norm) == ([32] * 4, [256, 256], "none")


def test_a_saved_network_with_fewer_grey_levels_than_the_data(tmp_path):
    first = objective_of(**CATEGORICAL)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    data = dataclasses.replace(IMAGES, value_scale=255.0)
    with pytest.raises(UserError, match="would round to 17 levels; --num_levels 17 says"):
        reload(tmp_path, VAEArguments(), data)
    reload(tmp_path, VAEArguments(num_levels=17), data)


# total correlation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl_estimator", ["closed_form", "sampled"])
@pytest.mark.parametrize("kind", ["minibatch_weighted", "minibatch_stratified"])
def test_total_correlation_is_added_with_its_weight(kind, kl_estimator):
    objective, batch = objective_of(tc_weight=5.0, tc_estimator=kind, kl_estimator=kl_estimator), make_batch(IMAGES)
    losses = losses_of(objective, batch)
    noise = seeded_noise().normal((5, 3), like=batch["image"])
    mean, log_std = objective.networks["vae"].posterior_parameters(batch["image"])
    latents = mean + log_std.exp() * noise
    correlation = batch_total_correlation(kind, latents, mean, log_std, 100).mean()
    assert losses["total_correlation"].item() == pytest.approx(correlation.item(), rel=1e-5)
    plain = losses_of(objective_of(kl_estimator=kl_estimator), batch)["loss"]
    assert losses["loss"].item() == pytest.approx((plain + 5 * correlation).item(), rel=1e-5)


def test_beta_tc_vae_is_the_three_parts_of_its_paper():
    """Chen et al. 2018, eq. 4 with alpha = gamma = 1: index-code information + beta TC + KL of each dimension."""
    objective = objective_of(tc_weight=5.0, kl_estimator="sampled")
    batch = make_batch(IMAGES)
    losses = losses_of(objective, batch)
    noise = seeded_noise().normal((5, 3), like=batch["image"])
    mean, log_std = objective.networks["vae"].posterior_parameters(batch["image"])
    latents = mean + log_std.exp() * noise
    parts = torch.zeros(3)
    for z, mu, log_sigma in zip(latents, mean, log_std, strict=True):
        of_each = Normal(mean, log_std.exp()).log_prob(z)  # (batch, latent_dim)
        joint = torch.logsumexp(of_each.sum(1), 0) - math.log(100 * 5)
        marginals = (torch.logsumexp(of_each, 0) - math.log(100 * 5)).sum()
        own = Normal(mu, log_sigma.exp()).log_prob(z).sum()
        prior = Normal(0.0, 1.0).log_prob(z).sum()
        parts = parts + torch.stack([own - joint, joint - marginals, marginals - prior]) / 5
    expected = losses["reconstruction_nll"] + parts[0] + 6 * parts[1] + parts[2]
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = list(objective.networks["vae"].parameters())
    wanted = torch.autograd.grad(expected, parameters, retain_graph=True)
    for ours, theirs in zip(torch.autograd.grad(losses["loss"], parameters), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_factorvae_learns_from_the_discriminators_logits_and_the_discriminator_from_permuted_codes():
    objective, batch = objective_of(**FACTOR), make_batch(IMAGES)
    vae, judge = objective.networks["vae"], objective.networks["discriminator"]
    elbo, of_judge = objective.phases
    cache: dict = {}
    losses = objective.losses(elbo, objective.networks, batch, seeded_noise(), cache)
    noise = seeded_noise().normal((5, 3), like=batch["image"])
    mean, log_std = vae.posterior_parameters(batch["image"])
    codes = mean + log_std.exp() * noise
    correlation = judge(codes).logits.mean()
    plain = losses_of(objective_of(), batch)["loss"]
    assert losses["loss"].item() == pytest.approx((plain + 2 * correlation).item(), rel=1e-5)
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in vae.parameters())

    fresh = make_batch(IMAGES, seed=1)
    losses = objective.losses(of_judge, objective.networks, fresh, seeded_noise(), cache)
    source = seeded_noise()
    with torch.no_grad():
        mean, log_std = vae.posterior_parameters(fresh["image"])
        draws = mean + log_std.exp() * source.normal((5, 3), like=mean)
        order = source.uniform((5, 3), like=mean).argsort(0)
    permuted = torch.stack([draws[order[:, j], j] for j in range(3)], 1)
    real, fake = (judge(each.detach()).logits.sigmoid() for each in (codes, permuted))
    expected = -real.log().mean() - (1 - fake).log().mean()
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    vae.zero_grad()
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in vae.parameters())


def test_one_code_cannot_be_permuted():
    objective = objective_of(**FACTOR)
    batch, cache = {"image": make_batch(IMAGES)["image"][:1]}, {}
    objective.losses(objective.phases[0], objective.networks, batch, seeded_noise(), cache)
    with refused("codes are permuted over batches of at least 2 examples, got 1; choose a larger --train_batch_size"):
        objective.losses(objective.phases[1], objective.networks, batch, seeded_noise(), cache)


def test_a_discriminator_of_codes_is_found_again_or_built_anew(tmp_path):
    first = objective_of(**FACTOR)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    options = {"tc_weight": 1.0, "tc_estimator": "discriminator"}
    again = reload(tmp_path, VAEArguments(**options, latent_hidden_dims=[5]), IMAGES)
    assert again.notes and "built anew" in again.notes[0]
    first.networks["discriminator"].save_pretrained(tmp_path / "training_networks" / "discriminator")
    found = VAEArguments(**options)
    again = reload(tmp_path, found, IMAGES)
    assert not again.notes and found.latent_hidden_dims == [4]
    for name, network in first.networks.items():
        for ours, theirs in zip(again.networks[name].parameters(), network.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    assert "discriminator" not in reload(tmp_path, VAEArguments(), IMAGES).networks


def test_streamed_data_have_no_estimate_from_batches():
    streamed = dataclasses.replace(IMAGES, num_examples=None)
    with refused("--tc_estimator minibatch_weighted needs to know how many examples there are, and builtin:digits is"):
        objective_of(streamed, tc_weight=1.0)
    objective_of(streamed, **FACTOR)
