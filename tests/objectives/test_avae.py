"""AVAE's losses against sums over samples and dimensions; its warm-up, learning rates, figures and options."""

from __future__ import annotations

import copy
import math
import re
import shutil

import pytest
import torch

from hf_genmodels import VAE, AutoPipeline, VAEPipeline
from hf_genmodels.families.avae import AVAEArguments, build, reload
from hf_genmodels.objectives.avae import AVAEObjective
from hf_genmodels.training.entry import train_family
from tests.testing_utils.adversarial_objectives import (
    DCGAN,
    IMAGES_16,
    MLP,
    assert_only_trains,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
    slow_adversarial_terms,
    slow_kl,
    slow_mean_squared_error,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import assert_same_run, interrupted

CASES = [
    (VECTORS, MLP),
    (VECTORS, MLP | {"xi_dim": 0, "latent_loss": "nll_a"}),
    (IMAGES, MLP | {"xi_dim": 0}),
    (IMAGES, MLP | {"xi_dim": 2, "latent_loss": "softmax", "beta": 0.3}),
    (IMAGES_16, DCGAN | {"beta": 2.0}),
]


def objective_of(data=VECTORS, **options) -> AVAEObjective:
    torch.manual_seed(0)
    objective = build(AVAEArguments(**(options or MLP)), data)
    with torch.no_grad():  # one sigma above 1, and none the same
        objective.networks["encoder"].log_std.copy_(torch.tensor([-0.7, -0.2, 0.3]))
    return objective


def slow_latent_loss(kind, latents, means, log_std):
    sigma = torch.exp(log_std.detach())
    total = torch.zeros(())
    for z, mu in zip(latents, means, strict=True):
        for j in range(len(sigma)):
            if kind == "nll_a":
                total = total + ((mu[j] - z[j]) / sigma[j]) ** 2 / 2
            elif kind == "nll_b":
                total = total + ((mu[j] - math.sqrt(max(0.0, 1 - sigma[j].item() ** 2)) * z[j]) / sigma[j]) ** 2 / 2
            else:
                total = total + 64 / 2 * (z[j] - mu[j]) ** 2 / (sigma[j] ** 2 * (1 / sigma**2).sum())
    return total / len(latents)


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("data", "options"), CASES)
def test_loss_of_the_generator(data, options, weight):
    objective, args = objective_of(data, **options), AVAEArguments(**options)
    objective.latent_weight = weight
    networks, batch = objective.networks, make_batch(data)
    xi_dim = 3 if args.xi_dim is None else args.xi_dim
    assert networks["generator"].config.latent_dim == 3 + xi_dim
    draws = seeded_noise().normal((5, 3 + xi_dim), like=batch["image"])
    losses = phase_losses(objective, "generator", batch)

    fake = networks["generator"](draws).sample
    encoded = networks["encoder"](fake)
    on_latents = slow_latent_loss(args.latent_loss, draws[:, :3], encoded.mean, encoded.log_std)
    logits = networks["discriminator"](fake).logits
    on_critic = -sum(logits) / 5
    assert losses["latent"].item() == pytest.approx(on_latents.item(), rel=1e-4)
    assert losses["critic"].item() == pytest.approx(on_critic.item(), rel=1e-4, abs=1e-6)
    assert_same_loss(losses["loss"], weight * on_latents + on_critic, objective, ("generator",))
    assert_same_loss(losses["latent"], on_latents, objective, ("generator",))


@pytest.mark.parametrize(("data", "options"), CASES)
def test_loss_of_the_critic(data, options):
    objective = objective_of(data, **options)
    networks, batch, cache = objective.networks, make_batch(data), {}
    draws = seeded_noise(9).normal((5, networks["generator"].config.latent_dim), like=batch["image"])
    losses = phase_losses(objective, "critic", batch, cache, seed=9)
    assert not cache
    judge, fake = networks["discriminator"], networks["generator"](draws).sample.detach()
    expected = slow_adversarial_terms("linear_logit", list(judge(batch["image"]).logits), list(judge(fake).logits))
    assert_same_loss(losses["loss"], expected[1], objective, ("discriminator",))
    assert 0 <= losses["accuracy"].item() <= 1
    assert_only_trains(objective, "critic", batch)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_loss_of_encoder_and_decoder(data, options):
    objective = objective_of(data, **options)
    networks, batch = objective.networks, make_batch(data)
    eps = seeded_noise().normal((5, 3), like=batch["image"])
    losses = phase_losses(objective, "vae", batch)
    encoded = networks["encoder"](batch["image"])
    latents = torch.stack([mu + torch.exp(encoded.log_std) * e for mu, e in zip(encoded.mean, eps, strict=True)])
    decoded = networks["decoder"](latents).sample
    error = sum(((a - b) ** 2).sum() / 2 for a, b in zip(decoded, batch["image"], strict=True)) / 5
    kl = slow_kl(encoded.mean, encoded.log_std).mean()
    assert losses["reconstruction"].item() == pytest.approx(error.item(), rel=1e-4)
    assert losses["kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert_same_loss(losses["loss"], error + options.get("beta", 1.0) * kl, objective, ("encoder", "decoder"))
    for name, parameter in networks["encoder"].named_parameters():
        if name == "log_std":
            assert torch.autograd.grad(losses["loss"], parameter, retain_graph=True)[0].abs().min() > 0


def test_the_vae_knows_nothing_of_generator_and_critic():
    objective, batch = objective_of(IMAGES_16, **DCGAN), make_batch(IMAGES_16)
    before = phase_losses(objective, "vae", batch)["loss"].item()
    with torch.no_grad():
        for name in ("generator", "discriminator"):
            for parameter in objective.networks[name].parameters():
                parameter.fill_(float("nan"))
    assert phase_losses(objective, "vae", batch)["loss"].item() == before


def test_fakes_leave_no_trace_in_the_encoder():
    """Its running averages are those of the data, though the generator's phase needs statistics of fakes."""
    objective, batch = objective_of(IMAGES_16, **DCGAN), make_batch(IMAGES_16)
    encoder = objective.networks["encoder"]
    running = [name for name, _ in encoder.named_buffers() if "running" in name]
    assert running
    alone = copy.deepcopy(encoder)
    cache: dict = {}
    for _ in range(2):
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        phase_losses(objective, "critic", batch, cache)
        phase_losses(objective, "generator", batch, cache)
        assert not cache
        assert all(torch.equal(encoder.state_dict()[name], before[name]) for name in (*running, "log_std"))
        phase_losses(objective, "vae", batch)
        assert not any(torch.equal(encoder.state_dict()[name], before[name]) for name in running)
        alone(batch["image"])
        for name in running:
            torch.testing.assert_close(encoder.state_dict()[name], alone.state_dict()[name])
    assert all(module.momentum == 0.1 for module in encoder.modules() if hasattr(module, "running_mean"))


def test_phases():
    assert [(phase.name, phase.trains, phase.updates, phase.reuse_batch) for phase in objective_of().phases] == [
        ("critic", ("discriminator",), 1, False),
        ("generator", ("generator",), 1, True),
        ("vae", ("encoder", "decoder"), 1, True),
    ]
    assert AVAEObjective.ema == ("encoder", "decoder", "generator")


@pytest.mark.parametrize(
    ("warmup", "weights"),
    [
        (10, {0: 0, 1: 0, 10: 0, 11: 0.1, 15: 0.5, 19: 0.9, 20: 1, 21: 1, 1000: 1}),
        (1, {0: 0, 1: 0, 2: 1, 3: 1}),
        (0, {0: 1, 1: 1, 500: 1}),
        (500, {500: 0, 750: 0.5, 1000: 1}),
    ],
)
def test_warm_up_of_the_latent_loss(warmup, weights):
    objective = objective_of(VECTORS, **MLP | {"latent_warmup_steps": warmup})
    for step, weight in weights.items():
        objective.before_step(step)
        assert objective.latent_weight == pytest.approx(weight)
        losses = phase_losses(objective, "generator", make_batch(VECTORS))
        expected = weight * losses["latent"].item() + losses["critic"].item()
        assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert AVAEArguments().latent_warmup_steps == 500


@pytest.mark.parametrize(("options", "expected"), [({}, {}), ({"log_std_learning_rate": 0.02}, {"lr": 0.02})])
def test_learning_rates(options, expected):
    objective = objective_of(VECTORS, **MLP | options | {"discriminator_learning_rate": 0.3})
    encoder = objective.networks["encoder"]
    others, own = objective.param_groups("encoder")
    assert own["params"] == [encoder.log_std] and {k: v for k, v in own.items() if k != "params"} == expected
    assert others.keys() == {"params"}
    assert {id(p) for p in others["params"]} | {id(encoder.log_std)} == {id(p) for p in encoder.parameters()}
    assert len(others["params"]) == len(list(encoder.parameters())) - 1
    (of_critic,), (of_generator,) = objective.param_groups("discriminator"), objective.param_groups("generator")
    assert of_critic["lr"] == 0.3 and "lr" not in of_generator


# inference -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options"), CASES)
def test_held_out_figures(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    networks, image = objective.networks, batch["image"]
    for network in networks.values():
        network.eval()
    with torch.no_grad():
        figures = objective.evaluate(networks, batch, torch.Generator().manual_seed(3))
        width = networks["generator"].config.latent_dim
        draws = torch.randn(5, width, generator=torch.Generator().manual_seed(3))
        encoded = networks["encoder"](image)
        drawn = encoded.mean + torch.exp(encoded.log_std) * draws[:, :3]
        made = networks["generator"](torch.cat([drawn, draws[:, 3:]], 1)).sample
        decoded = networks["decoder"](encoded.mean).sample
    assert figures.keys() == {"mse_drawn", "mse_decoder", "kl"}
    assert figures["mse_drawn"].tolist() == pytest.approx(slow_mean_squared_error(made, image), rel=1e-4)
    assert figures["mse_decoder"].tolist() == pytest.approx(slow_mean_squared_error(decoded, image), rel=1e-4)
    assert figures["kl"].tolist() == pytest.approx(slow_kl(encoded.mean, encoded.log_std).tolist(), rel=1e-4)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_pictures_and_watched_samples(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    for network in objective.networks.values():
        network.eval()
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.config.value_scale == data.value_scale
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    assert pictures["samples"].shape == batch["image"].shape
    if data.is_image:
        rows = pictures["image, decoder, generator"].unflatten(0, (5, 8))
        torch.testing.assert_close(rows[:, 0], (batch["image"] + 1) / 2)
        with torch.no_grad():
            decoded = objective.networks["decoder"](objective.networks["encoder"](batch["image"]).mean).sample
        torch.testing.assert_close(rows[:, 1], (decoded + 1) / 2)
        assert not torch.equal(rows[:, 2], rows[:, 3])  # other details each time
    else:
        assert torch.equal(pictures["data"], batch["image"])
        assert pictures["reconstructions"].shape == batch["image"].shape
    with torch.no_grad():
        watched = objective.watched_samples(objective.networks, 4, torch.Generator().manual_seed(1))
        latents = torch.randn(
            4, objective.networks["generator"].config.latent_dim, generator=torch.Generator().manual_seed(1)
        )
        torch.testing.assert_close(watched, objective.networks["generator"](latents).sample)


# saved networks and options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["output", "checkpoint"])
@pytest.mark.parametrize(("data", "options"), CASES[1:])
def test_from_saved_networks(data, options, layout, tmp_path):
    first = objective_of(data, **options)
    save_run(first, tmp_path, layout)
    for given in (AVAEArguments(beta=7.0), AVAEArguments(**options | {"beta": 7.0})):
        again, built = reload(tmp_path, given, data), AVAEArguments(**options)
        assert_same_networks(again, first)
        shapes = ("architecture", "latent_dim", "width", "hidden_dims", "norm_statistics")
        assert [getattr(given, name) for name in shapes] == [getattr(built, name) for name in shapes]
        assert given.xi_dim == (3 if built.xi_dim is None else built.xi_dim)
        assert again.beta == 7
        phase_losses(again, "generator", make_batch(data))


def test_saved_networks_that_do_not_fit(tmp_path):
    save_run(objective_of(VECTORS, **MLP | {"xi_dim": 1}), tmp_path, "output")
    for options, message in (
        ({"xi_dim": 2}, "--xi_dim cannot be changed with --pretrained.*; the saved network has 1"),
        ({"latent_dim": 4}, "--latent_dim cannot be changed with .*; the saved network has 3"),
        ({"architecture": "avae"}, "--architecture cannot be changed with .*; the saved network has mlp"),
        ({"norm_statistics": "batch"}, "--norm_statistics cannot be changed with .*; the saved network has running"),
        (
            {"discriminator_norm": "batch"},
            "--discriminator_norm cannot be changed with .*; the saved network has none",
        ),
        ({"beta": -1.0}, "--beta must be at least 0"),
        ({"log_std_learning_rate": 0.0}, "--log_std_learning_rate must be positive, got 0.0"),
        ({"discriminator_learning_rate": -1.0}, "--discriminator_learning_rate must be positive"),
    ):
        with refused(message):
            reload(tmp_path, AVAEArguments(**options), VECTORS)
    with refused("takes samples of shape"):
        reload(tmp_path, AVAEArguments(), IMAGES)
    (tmp_path / "training_networks" / "discriminator").rename(tmp_path / "gone")
    with refused("holds no discriminator"):
        reload(tmp_path, AVAEArguments(), VECTORS)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (VECTORS, MLP | {"xi_dim": -1}, "--xi_dim must be at least 0, got -1"),
        (VECTORS, MLP | {"beta": -0.1}, "--beta must be at least 0"),
        (VECTORS, MLP | {"log_std_learning_rate": 0.0}, "--log_std_learning_rate must be positive, got 0.0"),
        (VECTORS, MLP | {"discriminator_learning_rate": -1.0}, "--discriminator_learning_rate must be positive"),
        (VECTORS, MLP | {"latent_warmup_steps": -1}, "--latent_warmup_steps must be at least 0"),
        (VECTORS, MLP | {"latent_dim": 0}, "--latent_dim must be at least 1"),
        (VECTORS, DCGAN, "--architecture dcgan needs images, but builtin:toy2d has vectors"),
        (VECTORS, MLP | {"width": 2}, "--width has no meaning with --architecture mlp"),
        (IMAGES_16, DCGAN | {"hidden_dims": [2]}, "--hidden_dims has no meaning with --architecture dcgan"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        build(AVAEArguments(**options), data)


# of a trained VAE ----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained_vae(tmp_path):
    torch.manual_seed(0)
    vae = VAE(1, 8, latent_dim=3, block_out_channels=(4,), likelihood="bernoulli").eval()
    VAEPipeline(vae, value_scale=16.0).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae", vae


OF_TRAINED = {"architecture": "mlp", "hidden_dims": [6], "xi_dim": 2}


@pytest.mark.parametrize("kind", ["nll_a", "nll_b", "softmax"])
def test_a_trained_vae_gives_each_fake_its_sigma_and_learns_nothing(trained_vae, kind):
    folder, vae = trained_vae
    torch.manual_seed(0)
    args = AVAEArguments(**OF_TRAINED, vae_model_name_or_path=str(folder), latent_loss=kind)
    objective, batch = build(args, IMAGES), make_batch(IMAGES)
    assert args.latent_dim == 3 and objective.frozen == ("encoder", "decoder")
    assert [phase.name for phase in objective.phases] == ["critic", "generator"]
    assert not {"encoder", "decoder"} & {name for phase in objective.phases for name in phase.trains}
    losses = phase_losses(objective, "generator", batch)
    draws = seeded_noise().normal((5, 5), like=batch["image"])
    mean, log_std = vae.posterior_parameters(objective.networks["generator"](draws).sample)
    expected = sum(
        slow_latent_loss(kind, z[None], mu[None], s) for z, mu, s in zip(draws[:, :3], mean, log_std, strict=True)
    )
    assert losses["latent"].item() == pytest.approx(expected.item() / 5, rel=1e-4)
    assert objective.evaluate(objective.networks, batch, torch.Generator())["kl"].shape == (5,)


def test_an_avae_of_a_trained_vae_is_trained_resumed_and_trained_further(trained_vae, tmp_path):
    folder, _ = trained_vae
    words = ["--dataset_name", "builtin:digits", "--max_train_samples", "32", "--train_batch_size", "8"]
    words += ["--architecture", "mlp", "--hidden_dims", "6", "--log_steps", "2", "--max_train_steps", "4"]
    words += ["--checkpointing_steps", "2", "--vae_model_name_or_path", str(folder)]
    train_family("avae", [*words, "--output_dir", str(tmp_path / "whole")])
    resumed = interrupted(tmp_path / "whole", 2, tmp_path / "resumed")
    shutil.copytree(tmp_path / "whole" / "frozen", resumed / "frozen")
    train_family("avae", [*words, "--output_dir", str(resumed), "--resume_from_checkpoint", "latest"])
    assert_same_run(tmp_path / "whole", resumed, 4)
    pipe, vae = AutoPipeline.from_pretrained(resumed), VAEPipeline.from_pretrained(folder)
    image = (make_batch(IMAGES)["image"] + 1) / 2
    assert torch.equal(pipe.encode(image), vae.encode(image))
    again = AVAEArguments()
    objective = reload(resumed, again, IMAGES)
    assert objective.frozen == ("encoder", "decoder") and (again.latent_dim, again.architecture) == (3, "mlp")
    for option in ({"beta": 4.0}, {"log_std_learning_rate": 0.1}):
        (name,) = option
        with refused(f"--{name} has no meaning where encoder and decoder are those of a trained VAE; leave it out"):
            reload(resumed, AVAEArguments(**option), IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 7}, "--latent_dim is the VAE's, 3; leave it out"),
        ({"beta": 2.0}, "--beta has no meaning with --vae_model_name_or_path; leave it out"),
        ({"log_std_learning_rate": 0.1}, "--log_std_learning_rate has no meaning with --vae_model_name_or_path"),
    ],
)
def test_options_that_are_the_trained_vaes(trained_vae, options, message):
    folder, _ = trained_vae
    with refused(re.escape(message)):
        build(AVAEArguments(**OF_TRAINED | options, vae_model_name_or_path=str(folder)), IMAGES)
    with refused("takes samples of shape"):
        build(AVAEArguments(**OF_TRAINED, vae_model_name_or_path=str(folder)), IMAGES_16)
    with refused("cannot be changed with --pretrained_model_name_or_path"):
        reload(folder, AVAEArguments(vae_model_name_or_path=str(folder)), IMAGES)
