"""What steadies a GAN's training: losses against slow formulas, the schedule, and options that exclude each other."""

from __future__ import annotations

import re

import pytest
import torch

from hf_genmodels import GANObjective, MomentMatchingObjective, UserError
from hf_genmodels.families.gan import GANArguments, reload
from hf_genmodels.losses.gan import GAN_LOSSES
from hf_genmodels.losses.mmd import mmd_loss
from hf_genmodels.training.state import plain_values
from tests.testing_utils.adversarial_objectives import (
    DCGAN,
    IMAGES_16,
    MLP,
    assert_same_loss,
    assert_same_networks,
    gan_objective,
    phase_losses,
    save_run,
    slow_adversarial_terms,
    slow_cross_entropy,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused


def fakes(objective, batch, seed=7, **labels):
    """The generator's, of the first latents of a phase, and the noise that follows them."""
    noise = seeded_noise(seed)
    latents = noise.normal((len(batch["image"]), 3), like=batch["image"])
    return objective.networks["generator"](latents, **labels).sample, noise


@pytest.mark.parametrize("options", [{}, {"packing": 2, "gan_loss": "hinge"}, {"minibatch_kernels": 3}])
def test_feature_matching(options):
    objective = gan_objective(generator_loss="feature_matching", **options)
    batch = make_batch(VECTORS, 6)
    fake, _ = fakes(objective, batch)
    judge = objective.networks["discriminator"]
    means = [torch.stack(list(judge(images).features)).sum(0) for images in (fake, batch["image"])]
    count = 6 // options.get("packing", 1)
    expected = sum(((one - other) / count) ** 2 for one, other in zip(*means, strict=True))
    losses = phase_losses(objective, "generator", batch)
    assert_same_loss(losses["loss"], expected, objective, ("generator",))
    assert "accuracy" in phase_losses(objective, "discriminator", batch)


def test_feature_matching_with_classes_that_are_predicted():
    objective = gan_objective(IMAGES, **DCGAN, conditioning="acgan", generator_loss="feature_matching")
    batch = make_batch(IMAGES, 4)
    losses = phase_losses(objective, "generator", batch)
    fake, _ = fakes(objective, batch, labels=batch["label"])
    judge = objective.networks["discriminator"]
    on_fake = slow_cross_entropy(judge(fake).class_logits, batch["label"])
    distance = (judge(fake).features.mean(0) - judge(batch["image"]).features.mean(0)).square().sum()
    assert losses["loss"].item() == pytest.approx((distance + on_fake).item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["minimax", "non_saturating", "linear_logit"])
def test_label_smoothing_changes_what_the_discriminator_minimises_on_data(kind):
    plain, smoothed = gan_objective(gan_loss=kind), gan_objective(gan_loss=kind, label_smoothing=0.2)
    batch = make_batch(VECTORS)
    losses = [phase_losses(each, "discriminator", batch)["loss"].item() for each in (plain, smoothed)]
    logits = plain.networks["discriminator"](batch["image"]).logits
    # -log D by a fifth less, -log(1 - D) by a fifth more: their difference is the logit
    assert losses[1] - losses[0] == pytest.approx(0.2 * logits.mean().item(), rel=1e-4)
    losses = [phase_losses(each, "generator", batch)["loss"].item() for each in (plain, smoothed)]
    assert losses[0] == losses[1]


def test_instance_noise_is_on_data_and_fakes_and_falls_to_none():
    objective, batch = gan_objective(instance_noise=0.8, instance_noise_steps=10), make_batch(VECTORS)
    judge, real = objective.networks["discriminator"], batch["image"]
    assert objective.schedule == (("instance_noise_steps", 10),)
    for step, std in ((0, 0.8), (5, 0.4), (9, 0.08), (10, 0.0), (25, 0.0)):
        objective.before_step(step)
        fake, noise = fakes(objective, batch)
        on_real, on_fake = (std * noise.normal((5, 2), like=real) for _ in range(2))
        expected = slow_adversarial_terms(
            "non_saturating", list(judge(real + on_real).logits), list(judge(fake + on_fake).logits)
        )
        losses = phase_losses(objective, "discriminator", batch)
        assert losses["loss"].item() == pytest.approx(expected[1].item(), rel=1e-5)
        losses = phase_losses(objective, "generator", batch)
        logits = judge(fake + on_real).logits  # the first noise of that phase
        expected = slow_adversarial_terms("non_saturating", list(logits), list(logits))
        assert losses["loss"].item() == pytest.approx(expected[0].item(), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"gan_loss": "wasserstein"}, {"generator_loss": "feature_matching"}])
def test_consensus_of_both_players(options):
    """Each player's gradient: that of its own loss, and gamma times that of half the squared length of the field."""
    data = IMAGES if "gan_loss" in options else VECTORS
    if "gan_loss" in options:  # a critic that may go without a penalty
        options = DCGAN | options | {"discriminator_norm": "spectral"}
    objective, batch = gan_objective(data, consensus_weight=0.3, **options), make_batch(data, 4)
    for network in objective.networks.values():
        network.eval()  # power iterations and batch norms stand still
    (phase,) = objective.phases
    assert phase.trains == ("generator", "discriminator") and phase.double_backward
    losses = phase_losses(objective, phase.name, batch)

    networks = objective.networks
    fake, _ = fakes(objective, batch)
    on_real, on_fake = (networks["discriminator"](images) for images in (batch["image"], fake))
    kind = options.get("gan_loss", "non_saturating")
    of_both = list(slow_adversarial_terms(kind, list(on_real.logits), list(on_fake.logits)))
    if "generator_loss" in options:
        of_both[0] = (on_real.features.mean(0) - on_fake.features.mean(0)).square().sum()
    own = [list(networks[name].parameters()) for name in ("generator", "discriminator")]
    fields = [torch.autograd.grad(*each, create_graph=True) for each in zip(of_both, own, strict=True)]
    energy = 0.3 * sum((entry**2 / 2).sum() for field in fields for entry in field)
    names = ("generator", "discriminator", "consensus")
    assert [losses[name].item() for name in names] == pytest.approx(
        [of_both[0].item(), of_both[1].item(), energy.item()], rel=1e-4, abs=1e-6
    )
    for parameters, field in zip(own, fields, strict=True):
        ours = torch.autograd.grad(losses["loss"], parameters, retain_graph=True)
        bent = torch.autograd.grad(energy, parameters, retain_graph=True, materialize_grads=True)
        expected = [one + other for one, other in zip(field, bent, strict=True)]
        torch.testing.assert_close(ours, tuple(expected), rtol=1e-3, atol=1e-5)
        assert any(each.abs().max() > 1e-6 for each in bent)


def test_moment_matching():
    objective, batch = gan_objective(generator_loss="mmd", mmd_bandwidths=[0.3, 1.0]), make_batch(VECTORS)
    assert isinstance(objective, MomentMatchingObjective) and objective.networks.keys() == {"generator"}
    fake, _ = fakes(objective, batch)
    losses = phase_losses(objective, "generator", batch)
    assert_same_loss(losses["loss"], mmd_loss(batch["image"], fake, (0.3, 1.0)), objective, ("generator",))
    watched = objective.watched_samples(objective.networks, 4, torch.Generator().manual_seed(0))
    assert watched.shape == (4, 2)
    assert objective.pipeline(objective.networks).generator is objective.networks["generator"]


def test_networks_that_moment_matching_was_trained_with(tmp_path):
    first = gan_objective(generator_loss="mmd")
    save_run(first, tmp_path, "output")
    args = GANArguments(generator_loss="mmd")
    assert_same_networks(reload(tmp_path, args, VECTORS), first)
    assert (args.architecture, args.latent_dim, args.hidden_dims) == ("mlp", 3, [8])
    with refused(r"the pretrained network takes samples of shape \(2,\), builtin:digits has \(1, 8, 8\)"):
        reload(tmp_path, GANArguments(generator_loss="mmd"), IMAGES)
    with refused("holds no discriminator"):
        reload(tmp_path, GANArguments(), VECTORS)


def test_a_saved_discriminator_keeps_its_kernels(tmp_path):
    first = gan_objective(minibatch_kernels=3)
    save_run(first, tmp_path, "output")
    args = GANArguments()
    assert_same_networks(reload(tmp_path, args, VECTORS), first)
    assert args.minibatch_kernels == 3
    with refused("--minibatch_kernels cannot be changed with --pretrained_.*; the saved network has 3"):
        reload(tmp_path, GANArguments(minibatch_kernels=4), VECTORS)
    with refused("the saved discriminator's minibatch discrimination and --gradient_penalty r1 exclude each other"):
        reload(tmp_path, GANArguments(gradient_penalty="r1"), VECTORS)


NOISE = {"instance_noise": 0.1, "instance_noise_steps": 5}


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (VECTORS, {"label_smoothing": 1.0}, "--label_smoothing must be at least 0 and below 1, got 1.0"),
        (
            VECTORS,
            {"label_smoothing": 0.1, "gan_loss": "hinge"},
            "--label_smoothing needs a loss with labels, and --gan_loss hinge has none; choose one of minimax",
        ),
        (VECTORS, {"instance_noise": 0.1}, "--instance_noise needs --instance_noise_steps"),
        (VECTORS, {"instance_noise_steps": 5}, "--instance_noise_steps needs --instance_noise"),
        (VECTORS, NOISE | {"instance_noise": -0.1}, "--instance_noise must be positive, got -0.1"),
        (VECTORS, NOISE | {"instance_noise_steps": 0}, "--instance_noise_steps must be at least 1, got 0"),
        (VECTORS, {"minibatch_kernels": -1}, "--minibatch_kernels must be at least 0, got -1"),
        (
            VECTORS,
            {"minibatch_kernels": 4, "gradient_penalty": "r1"},
            "--minibatch_kernels and --gradient_penalty r1 exclude each other: a logit must depend on its own",
        ),
        (VECTORS, {"consensus_weight": -1.0}, "--consensus_weight must be at least 0, got -1.0"),
        (
            VECTORS,
            {"consensus_weight": 1.0, "gradient_penalty": "r1"},
            "--gradient_penalty has no meaning with --consensus_weight, by which both networks step at once",
        ),
        (VECTORS, {"consensus_weight": 1.0, "critic_updates": 2}, "--critic_updates has no meaning with --consensus"),
        (VECTORS, {"consensus_weight": 1.0, "share_fakes": True}, "--share_fakes has no meaning with --consensus"),
        (VECTORS, {"mmd_bandwidths": [1.0]}, "--mmd_bandwidths has no meaning without --generator_loss mmd"),
        (
            VECTORS,
            {"generator_loss": "mmd", "mmd_bandwidths": [1.0, 0.0]},
            "--mmd_bandwidths must be positive, got 1.0 0.0",
        ),
        (
            VECTORS,
            {"generator_loss": "mmd", "gan_loss": "hinge"},
            "--gan_loss has no meaning with --generator_loss mmd",
        ),
        (IMAGES, {"generator_loss": "mmd", "conditioning": "cgan"}, "--conditioning has no meaning with --generator"),
        (
            IMAGES_16,
            DCGAN | {"generator_loss": "mmd", "discriminator_norm": "none"},
            "--discriminator_norm has no meaning with --generator_loss mmd",
        ),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        gan_objective(data, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consensus_weight": -1.0}, "consensus_weight -1.0: give 0 or more, without gradient_penalty"),
        ({"consensus_weight": 1.0, "gradient_penalty": "r1"}, "consensus_weight 1.0: give 0 or more, without"),
        ({"instance_noise": 0.1}, "instance_noise 0.1 and instance_noise_steps None: give both"),
        ({"feature_loss": "mmd"}, "feature_loss 'mmd' is unknown; choose one of: feature_matching"),
        ({"label_smoothing": 0.1, "gan_loss": GAN_LOSSES["hinge"]}, "gan_loss of your own has none"),
    ],
)
def test_constructors_refuse_the_same(options, message):
    networks = gan_objective().networks
    with pytest.raises(UserError, match=re.escape(message)):
        GANObjective(networks["generator"], networks["discriminator"], VECTORS, **options)


def test_constructors_refuse_what_only_they_can_be_given():
    networks = gan_objective(minibatch_kernels=2).networks
    with refused(re.escape("MLPDiscriminator compares the samples of a batch (minibatch_kernels)")):
        GANObjective(networks["generator"], networks["discriminator"], VECTORS, gradient_penalty="r1")
    with refused("generator_loss mmd takes no notice of classes"):
        MomentMatchingObjective(gan_objective(IMAGES, conditioning="cgan").networks["generator"], IMAGES)
    with refused("mmd_bandwidths must be positive numbers, got none"):
        MomentMatchingObjective(networks["generator"], VECTORS, ())


def test_a_sample_alone_has_nothing_to_be_compared_with():
    objective = gan_objective(minibatch_kernels=2, packing=2)
    with refused("minibatch_kernels compare the samples of a batch, or its packs, and there is one"):
        phase_losses(objective, "discriminator", make_batch(VECTORS, 2))


def test_bandwidths_are_told_to_checkpoints():
    objective = gan_objective(generator_loss="mmd", mmd_bandwidths=[0.3, 1.0])
    assert plain_values(objective)["bandwidths"] == [0.3, 1.0]


def test_all_is_off_by_default():
    objective = gan_objective(**MLP)
    told = (objective.feature_loss, objective.instance_noise, objective.instance_noise_steps)
    assert told == (None, None, None) and objective.consensus_weight is None and objective.schedule == ()
    assert objective.gan_loss == "non_saturating"
    assert objective.networks["discriminator"].head.minibatch is None
