"""The GAN's losses and penalties against formulas for one sample at a time; its phases, classes and packs."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels.families.gan import GANArguments
from tests.testing_utils.adversarial_objectives import (
    DCGAN,
    GAN_ALLOWED,
    GAN_PENALTIES,
    IMAGES_16,
    assert_only_trains,
    assert_same_loss,
    gan_arguments,
    gan_objective,
    phase_losses,
    slow_adversarial_terms,
    slow_cross_entropy,
    slow_penalty,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise


def combination(gan_loss, gradient_penalty):
    """The options of a loss and a penalty, with clipped weights where the critic needs them."""
    clip = {"weight_clip": 0.01} if (gan_loss, gradient_penalty) == ("wasserstein", "none") else {}
    return {"gan_loss": gan_loss, "gradient_penalty": gradient_penalty, **clip}


def slow_losses(objective, args, batch, latents, mix):
    """Losses of the generator and of the discriminator, each of which carries gradients to both networks."""
    labels, packing = batch.get("label"), args.packing
    told = {} if args.conditioning == "none" else {"labels": labels}
    fake = objective.networks["generator"](latents, **told).sample
    judge = objective.networks["discriminator"]

    def rows(index):
        return slice(index * packing, (index + 1) * packing)

    def critic(pack, index):
        given = {"labels": labels[rows(index)]} if args.conditioning in ("cgan", "projection") else {}
        return judge(pack, **given).logits

    packs = range(len(latents) // packing)
    real_logits = [critic(batch["image"][rows(i)], i) for i in packs]
    fake_logits = [critic(fake[rows(i)], i) for i in packs]
    of_generator, of_discriminator = slow_adversarial_terms(args.gan_loss, real_logits, fake_logits)
    if args.conditioning == "acgan":
        on_real, on_fake = (slow_cross_entropy(judge(x).class_logits, labels) for x in (batch["image"], fake))
        of_generator = of_generator + args.class_weight * on_fake
        of_discriminator = of_discriminator + args.class_weight * (on_real + on_fake)
    if args.gradient_penalty != "none":
        real_packs, fake_packs = (x.unflatten(0, (-1, packing)) for x in (batch["image"], fake))
        weight = args.gradient_penalty_weight
        weight = {"roth": 2.0}.get(args.gradient_penalty, 10.0) if weight is None else weight
        of_discriminator = of_discriminator + slow_penalty(
            args.gradient_penalty, weight, critic, real_packs, fake_packs, mix
        )
    return of_generator, of_discriminator


def check_losses(data, count=4, **options):
    """All phases in order: each on fakes of its own noise, or with `share_fakes` both on the generator's.

    Returns:
        The objective.
    """
    objective, args = gan_objective(data, **options), gan_arguments(**options)
    batch, cache = make_batch(data, count), {}
    for phase, seed in zip(objective.phases, (7, 8), strict=True):
        noise = seeded_noise(seed)
        if seed == 7 or not args.share_fakes:
            latents = noise.normal((count, args.latent_dim), like=batch["image"])
        mix = noise.uniform((count // args.packing,), like=batch["image"])
        losses = phase_losses(objective, phase.name, batch, cache, seed)
        both = slow_losses(objective, args, batch, latents, mix)
        expected = dict(zip(("generator", "discriminator"), both, strict=True))
        assert_same_loss(losses["loss"], expected[phase.name], objective, (phase.name,))
        if phase.name == "discriminator":
            assert 0 <= losses["accuracy"].item() <= 1
            assert ("penalty" in losses) == (args.gradient_penalty != "none")
    assert not cache
    return objective


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gan_loss", "gradient_penalty"), GAN_ALLOWED)
def test_losses_of_both_phases(gan_loss, gradient_penalty):
    check_losses(VECTORS, **combination(gan_loss, gradient_penalty))


@pytest.mark.parametrize("gradient_penalty", GAN_PENALTIES[1:])
def test_penalties_of_convolutional_discriminators_with_a_weight(gradient_penalty):
    gan_loss = "hinge" if gradient_penalty == "wgan_gp" else "non_saturating"
    options = DCGAN | {"gradient_penalty_weight": 3.0}
    objective = check_losses(IMAGES_16, **options, **combination(gan_loss, gradient_penalty))
    assert objective.networks["discriminator"].config.norm == "layer"


@pytest.mark.parametrize(
    "options",
    [
        {"conditioning": "cgan"},
        {"conditioning": "cgan", "gan_loss": "hinge", "gradient_penalty": "zero_centred"},
        {"conditioning": "cgan", "gan_loss": "wasserstein", "gradient_penalty": "wgan_gp"},
        {"conditioning": "cgan", "packing": 2},
        DCGAN | {"conditioning": "cgan", "gradient_penalty": "roth"},
        DCGAN | {"conditioning": "acgan"},
        DCGAN | {"conditioning": "acgan", "class_weight": 0.3, "gradient_penalty": "r1"},
        DCGAN | {"conditioning": "projection", "gan_loss": "hinge"},
        DCGAN | {"conditioning": "projection", "gradient_penalty": "r2"},
    ],
)
def test_losses_with_classes(options):
    objective = check_losses(IMAGES, **options)
    batch, other = make_batch(IMAGES, 4), make_batch(IMAGES, 4)
    other["label"] = (batch["label"] + 1) % 3
    for name in ("generator", "discriminator"):
        values = [phase_losses(objective, name, given)["loss"].item() for given in (batch, other)]
        assert values[0] != pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("packing", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_penalty": "r1"},
        {"gradient_penalty": "roth"},
        {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp"},
        {"gan_loss": "hinge", "gradient_penalty": "zero_centred"},
    ],
)
def test_losses_of_packs(options, packing):
    objective = check_losses(VECTORS, 6, packing=packing, **options)
    assert objective.batch_multiple == packing


def test_the_samples_of_a_pack_are_interpolated_in_one_proportion():
    objective = gan_objective(packing=3, gan_loss="wasserstein", gradient_penalty="wgan_gp")
    real, fake = torch.ones(6, 2), torch.zeros(6, 2)
    mixed = objective.penalty.between(real, fake, seeded_noise(), packing=3)[:, 0].tolist()
    assert mixed[0] == mixed[1] == mixed[2] != mixed[3] == mixed[4] == mixed[5]
    assert mixed[::3] == seeded_noise().uniform((2,), like=real).tolist()


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (VECTORS, {}),
        (VECTORS, {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp"}),
        (VECTORS, {"gradient_penalty": "roth", "packing": 2}),
        (VECTORS, {"gan_loss": "hinge", "gradient_penalty": "zero_centred", "packing": 4}),
        (IMAGES, {"conditioning": "cgan"}),
        (IMAGES, DCGAN | {"conditioning": "acgan", "gradient_penalty": "r1"}),
    ],
)
def test_losses_with_shared_fakes(data, options):
    check_losses(data, share_fakes=True, **options)


# phases --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient_penalty", ["none", "r1"])
@pytest.mark.parametrize("options", [{}, {"critic_updates": 5}, {"share_fakes": True}])
def test_order_of_the_phases(options, gradient_penalty):
    first, second = gan_objective(gradient_penalty=gradient_penalty, **options).phases
    names = ("generator", "discriminator") if "share_fakes" in options else ("discriminator", "generator")
    assert (first.name, second.name) == names and (first.trains, second.trains) == (names[:1], names[1:])
    assert (first.updates, second.updates) == (options.get("critic_updates", 1), 1)
    assert not first.reuse_batch and second.reuse_batch
    for phase in (first, second):
        assert phase.double_backward == (phase.name == "discriminator" and gradient_penalty != "none")
    assert not GANArguments().share_fakes


def test_shared_fakes_are_those_that_the_generator_was_trained_on():
    objective = gan_objective(share_fakes=True)
    batch, cache = make_batch(VECTORS), {}
    latents = seeded_noise(7).normal((5, 3), like=batch["image"])
    made = objective.networks["generator"](latents).sample.detach()
    phase_losses(objective, "generator", batch, cache, 7)
    assert torch.equal(cache["fake"], made) and not cache["fake"].requires_grad
    with torch.no_grad():
        for parameter in objective.networks["generator"].parameters():  # its update comes in between
            parameter.zero_()
    judge = objective.networks["discriminator"]
    expected = slow_adversarial_terms("non_saturating", list(judge(batch["image"]).logits), list(judge(made).logits))
    losses = phase_losses(objective, "discriminator", batch, cache, 9)
    assert losses["loss"].item() == pytest.approx(expected[1].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "passes"), [({}, 2), ({"share_fakes": True}, 1), ({"critic_updates": 3}, 4), ({"packing": 5}, 2)]
)
def test_passes_through_the_generator_in_a_step(options, passes):
    objective, batch, cache, seen = gan_objective(**options), make_batch(VECTORS), {}, []
    objective.networks["generator"].register_forward_hook(lambda *call: seen.append(call[2].sample))
    for phase in objective.phases:
        for update in range(phase.updates):
            phase_losses(objective, phase.name, batch, cache, 10 * len(phase.name) + update)
    assert len(seen) == passes
    assert [fake.requires_grad for fake in seen] == (passes - 1) * [False] + [True]
    assert len({fake.sum().item() for fake in seen}) == passes


def test_a_critic_makes_fakes_of_its_own_at_every_update():
    options = {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "critic_updates": 5}
    objective, args = gan_objective(**options), gan_arguments(**options)
    batch, cache = make_batch(VECTORS), {}
    seen = []
    for seed in (3, 4):
        noise = seeded_noise(seed)
        latents, mix = noise.normal((5, 3), like=batch["image"]), noise.uniform((5,), like=batch["image"])
        losses = phase_losses(objective, "discriminator", batch, cache, seed)
        expected = slow_losses(objective, args, batch, latents, mix)[1]
        assert_same_loss(losses["loss"], expected, objective, ("discriminator",))
        seen.append(losses["loss"].item())
        assert not cache
    assert seen[0] != pytest.approx(seen[1], rel=1e-4)


@pytest.mark.parametrize("gradient_penalty", ["none", "r1", "r2", "roth", "zero_centred"])
@pytest.mark.parametrize("share_fakes", [False, True])
def test_the_discriminators_loss_is_none_of_the_generators_business(share_fakes, gradient_penalty):
    objective = gan_objective(share_fakes=share_fakes, gradient_penalty=gradient_penalty)
    assert_only_trains(objective, "discriminator", make_batch(VECTORS))


def test_clipped_weights():
    objective = gan_objective(gan_loss="wasserstein", weight_clip=0.05)
    phases = {phase.name: phase for phase in objective.phases}
    before = {n: [p.clone() for p in network.parameters()] for n, network in objective.networks.items()}
    objective.after_update(phases["generator"], objective.networks, seeded_noise(), lambda tensor: tensor)
    for name, network in objective.networks.items():
        assert all(map(torch.equal, network.parameters(), before[name]))
    objective.after_update(phases["discriminator"], objective.networks, seeded_noise(), lambda tensor: tensor)
    assert all(map(torch.equal, objective.networks["generator"].parameters(), before["generator"]))
    for now, then in zip(objective.networks["discriminator"].parameters(), before["discriminator"], strict=True):
        assert now.tolist() == then.clamp(-0.05, 0.05).tolist() and now.abs().max().item() == pytest.approx(0.05)
    free = gan_objective()
    free.after_update(free.phases[0], free.networks, seeded_noise(), lambda tensor: tensor)
    assert all(map(torch.equal, free.networks["discriminator"].parameters(), before["discriminator"]))


# inference -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options"),
    [(VECTORS, {}), (IMAGES, {"conditioning": "cgan"}), (IMAGES_16, DCGAN | {"packing": 2})],
)
def test_pictures_and_watched_samples(data, options):
    objective = gan_objective(data, **options)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.generator is objective.networks["generator"]
    assert pipeline.config.value_scale == data.value_scale
    batch = make_batch(data)
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    assert pictures["samples"].shape == batch["image"].shape
    if data.is_image:
        assert pictures.keys() == {"samples"} and 0 <= pictures["samples"].min() <= pictures["samples"].max() <= 1
    else:
        assert torch.equal(pictures["data"], batch["image"])

    for network in objective.networks.values():
        network.eval()
    with torch.no_grad():
        watched = objective.watched_samples(objective.networks, 5, torch.Generator().manual_seed(1))
        latents = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
        told = {"labels": torch.tensor([0, 1, 2, 0, 1])} if "conditioning" in options else {}
        torch.testing.assert_close(watched, objective.networks["generator"](latents, **told).sample)
