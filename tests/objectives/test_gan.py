"""The GAN's losses and penalties against formulas for one sample at a time; its phases, classes, packs, options."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.objectives.gan import GANArguments, GANObjective
from tests.testing_utils.adversarial_objectives import (
    DCGAN,
    IMAGES_16,
    IMAGES_32,
    MLP,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
    slow_adversarial_terms,
    slow_cross_entropy,
    slow_penalty,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise

LOSSES = ("minimax", "non_saturating", "linear_logit", "least_squares", "wasserstein", "hinge")
PENALTIES = ("none", "wgan_gp", "zero_centred", "r1", "r2", "roth")
# Roth's regulariser is that of the cross-entropy; slopes of 1 are for losses without a sigmoid or a square.
REFUSED = {
    *(
        ("minimax", "wgan_gp"),
        ("non_saturating", "wgan_gp"),
        ("linear_logit", "wgan_gp"),
        ("least_squares", "wgan_gp"),
    ),
    *(("least_squares", "roth"), ("hinge", "roth"), ("wasserstein", "roth")),
    *(("wasserstein", "r1"), ("wasserstein", "r2")),
}
ALLOWED = [pair for pair in itertools.product(LOSSES, PENALTIES) if pair not in REFUSED]


def objective_of(data=VECTORS, **options) -> GANObjective:
    torch.manual_seed(0)
    return GANObjective.from_args(GANArguments(**MLP | options), data)


def combination(gan_loss, gradient_penalty):
    """The options of a loss and a penalty, with clipped weights where the critic needs them."""
    clip = {"weight_clip": 0.01} if (gan_loss, gradient_penalty) == ("wasserstein", "none") else {}
    return {"gan_loss": gan_loss, "gradient_penalty": gradient_penalty, **clip}


def slow_losses(objective, batch, latents, mix):
    """Losses of the generator and of the discriminator, each of which carries gradients to both networks."""
    args, labels, packing = objective.args, batch.get("label"), objective.args.packing
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


def check_losses(objective, data, count=4):
    """Both phases with the generator first: its noise has seed 7, the discriminator's interpolates have seed 8."""
    batch = make_batch(data, count)
    latents = seeded_noise(7).normal((count, objective.args.latent_dim), like=batch["image"])
    mix = seeded_noise(8).uniform((count // objective.args.packing,), like=batch["image"])
    cache: dict = {}
    actual = phase_losses(objective, "generator", batch, cache, 7)["loss"]
    assert_same_loss(actual, slow_losses(objective, batch, latents, mix)[0], objective, ("generator",))
    losses = phase_losses(objective, "discriminator", batch, cache, 8)
    assert_same_loss(losses["loss"], slow_losses(objective, batch, latents, mix)[1], objective, ("discriminator",))
    assert not cache
    assert 0 <= losses["accuracy"].item() <= 1
    assert ("penalty" in losses) == (objective.args.gradient_penalty != "none")


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gan_loss", "gradient_penalty"), ALLOWED)
def test_losses_of_both_phases(gan_loss, gradient_penalty):
    check_losses(objective_of(**combination(gan_loss, gradient_penalty)), VECTORS)


@pytest.mark.parametrize("gradient_penalty", PENALTIES[1:])
def test_penalties_of_convolutional_discriminators_with_a_weight(gradient_penalty):
    gan_loss = "hinge" if gradient_penalty == "wgan_gp" else "non_saturating"
    options = DCGAN | {"hidden_dims": None, "gradient_penalty_weight": 3.0}
    objective = objective_of(IMAGES_16, **options, **combination(gan_loss, gradient_penalty))
    check_losses(objective, IMAGES_16)
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
    hidden = {} if options.get("architecture") is None else {"hidden_dims": None}
    objective = objective_of(IMAGES, **hidden | options)
    check_losses(objective, IMAGES)
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
    objective = objective_of(packing=packing, **options)
    assert objective.batch_multiple == packing
    check_losses(objective, VECTORS, 6)


def test_the_samples_of_a_pack_are_interpolated_in_one_proportion():
    objective = objective_of(packing=3, gan_loss="wasserstein", gradient_penalty="wgan_gp")
    real, fake = torch.ones(6, 2), torch.zeros(6, 2)
    mixed = objective.interpolates(real, fake, seeded_noise())[:, 0].tolist()
    assert mixed[0] == mixed[1] == mixed[2] != mixed[3] == mixed[4] == mixed[5]
    assert mixed[::3] == seeded_noise().uniform((2,), like=real).tolist()


# phases --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient_penalty", ["none", "r1"])
def test_order_of_the_phases(gradient_penalty):
    penalised = gradient_penalty != "none"
    first, second = objective_of(gradient_penalty=gradient_penalty).phases
    assert (first.name, first.trains, first.updates, first.reuse_batch) == ("generator", ("generator",), 1, False)
    assert (second.name, second.trains, second.updates) == ("discriminator", ("discriminator",), 1)
    assert second.reuse_batch and (first.double_backward, second.double_backward) == (False, penalised)

    first, second = objective_of(gradient_penalty=gradient_penalty, critic_updates=5).phases
    assert (first.name, first.trains, first.updates, first.reuse_batch) == (
        "discriminator",
        ("discriminator",),
        5,
        False,
    )
    assert (second.name, second.trains, second.updates) == ("generator", ("generator",), 1)
    assert second.reuse_batch and (first.double_backward, second.double_backward) == (penalised, False)


def test_the_discriminator_learns_from_the_fakes_that_the_generator_was_trained_on():
    objective = objective_of()
    batch, cache = make_batch(VECTORS), {}
    latents = seeded_noise(7).normal((5, 3), like=batch["image"])
    made = objective.networks["generator"](latents).sample.detach()
    phase_losses(objective, "generator", batch, cache, 7)
    assert torch.equal(cache["fake"], made) and not cache["fake"].requires_grad
    with torch.no_grad():
        for parameter in objective.networks["generator"].parameters():
            parameter.zero_()
    judge = objective.networks["discriminator"]
    expected = slow_adversarial_terms("non_saturating", list(judge(batch["image"]).logits), list(judge(made).logits))
    losses = phase_losses(objective, "discriminator", batch, cache, 9)
    assert losses["loss"].item() == pytest.approx(expected[1].item(), rel=1e-5)


def test_a_critic_that_goes_first_makes_fakes_of_its_own_every_time():
    objective = objective_of(gan_loss="wasserstein", gradient_penalty="wgan_gp", critic_updates=5)
    batch, cache = make_batch(VECTORS), {}
    seen = []
    for seed in (3, 4):
        noise = seeded_noise(seed)
        latents, mix = noise.normal((5, 3), like=batch["image"]), noise.uniform((5,), like=batch["image"])
        losses = phase_losses(objective, "discriminator", batch, cache, seed)
        expected = slow_losses(objective, batch, latents, mix)[1]
        assert_same_loss(losses["loss"], expected, objective, ("discriminator",))
        seen.append(losses["loss"].item())
        assert not cache
    assert seen[0] != pytest.approx(seen[1], rel=1e-4)


@pytest.mark.parametrize("critic_updates", [1, 2])
def test_the_discriminators_loss_is_none_of_the_generators_business(critic_updates):
    objective = objective_of(critic_updates=critic_updates)
    batch, cache = make_batch(VECTORS), {}
    if critic_updates == 1:
        phase_losses(objective, "generator", batch, cache)
    loss = phase_losses(objective, "discriminator", batch, cache)["loss"]
    for network in objective.networks.values():
        network.requires_grad_(True)
    again = objective.losses(objective.phases[critic_updates == 1], objective.networks, batch, seeded_noise(), {})
    for value in (loss, again["loss"]):
        value.backward()
    assert all(p.grad is None for p in objective.networks["generator"].parameters())


def test_clipped_weights():
    objective = objective_of(gan_loss="wasserstein", weight_clip=0.05)
    phases = {phase.name: phase for phase in objective.phases}
    before = {n: [p.clone() for p in network.parameters()] for n, network in objective.networks.items()}
    objective.after_update(phases["generator"], objective.networks, lambda tensor: tensor)
    for name, network in objective.networks.items():
        assert all(map(torch.equal, network.parameters(), before[name]))
    objective.after_update(phases["discriminator"], objective.networks, lambda tensor: tensor)
    assert all(map(torch.equal, objective.networks["generator"].parameters(), before["generator"]))
    for now, then in zip(objective.networks["discriminator"].parameters(), before["discriminator"], strict=True):
        assert now.tolist() == then.clamp(-0.05, 0.05).tolist() and now.abs().max().item() == pytest.approx(0.05)
    free = objective_of()
    free.after_update(free.phases[1], free.networks, lambda tensor: tensor)
    assert all(map(torch.equal, free.networks["discriminator"].parameters(), before["discriminator"]))


# options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options", "norm"),
    [
        (IMAGES_16, DCGAN, "batch"),
        (IMAGES_16, DCGAN | {"gradient_penalty": "r1"}, "layer"),
        (IMAGES_16, DCGAN | {"gradient_penalty": "r1", "discriminator_norm": "instance"}, "instance"),
        (IMAGES_16, DCGAN | {"discriminator_norm": "spectral", "gan_loss": "wasserstein"}, "spectral"),
        (IMAGES_32, DCGAN | {"architecture": "avae"}, "batch"),
        (IMAGES_32, DCGAN | {"architecture": "avae", "gan_loss": "hinge", "gradient_penalty": "wgan_gp"}, "layer"),
        (IMAGES_32, DCGAN | {"architecture": "sngan", "gan_loss": "wasserstein"}, "spectral"),
        (IMAGES_32, DCGAN | {"architecture": "sngan", "gradient_penalty": "r1"}, "spectral"),
        (IMAGES_32, DCGAN | {"architecture": "sngan", "discriminator_norm": "none"}, "none"),
    ],
)
def test_norm_of_the_discriminator(data, options, norm):
    objective = objective_of(data, **{"hidden_dims": None} | options)
    discriminator = objective.networks["discriminator"]
    assert discriminator.config.norm == norm
    assert any("parametrizations" in name for name, _ in discriminator.named_parameters()) == (norm == "spectral")
    assert discriminator.config.get("kernel_size") == {"dcgan": 4, "avae": 5, "sngan": None}[options["architecture"]]


@pytest.mark.parametrize(("gan_loss", "gradient_penalty"), sorted(REFUSED))
def test_losses_and_penalties_that_exclude_each_other(gan_loss, gradient_penalty):
    message = f"--gan_loss {gan_loss} and --gradient_penalty {gradient_penalty} exclude each other; choose one of none"
    with pytest.raises(UserError, match=message) as error:
        objective_of(gan_loss=gan_loss, gradient_penalty=gradient_penalty)
    assert "\n" not in str(error.value)


CONV = DCGAN | {"hidden_dims": None}
SNGAN = CONV | {"architecture": "sngan"}
MISUSE = [
    (VECTORS, {"gan_loss": "wasserstein"}, "--gan_loss wasserstein needs a Lipschitz critic: give --gradient_penalty"),
    (IMAGES_32, SNGAN | {"gan_loss": "wasserstein", "discriminator_norm": "none"}, "needs a Lipschitz critic"),
    (VECTORS, {"weight_clip": 0.1}, "--weight_clip is for --gan_loss wasserstein without a --gradient_penalty"),
    (
        VECTORS,
        {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "weight_clip": 0.1},
        "--weight_clip is for --gan_loss wasserstein without a --gradient_penalty",
    ),
    (VECTORS, {"gan_loss": "wasserstein", "weight_clip": 0.0}, "--weight_clip must be positive, got 0.0"),
    (
        VECTORS,
        {"gradient_penalty_weight": 1.0},
        "--gradient_penalty_weight has no meaning with --gradient_penalty none",
    ),
    (
        VECTORS,
        {"gradient_penalty": "r1", "gradient_penalty_weight": -1.0},
        "--gradient_penalty_weight must be at least 0",
    ),
    (
        IMAGES_16,
        CONV | {"gradient_penalty": "r1", "discriminator_norm": "batch"},
        "--discriminator_norm batch and --gradient_penalty r1 exclude each other: a logit must depend on its own",
    ),
    (IMAGES_16, CONV | {"packing": 2, "conditioning": "acgan"}, "--packing 2 does not go with --architecture dcgan"),
    (IMAGES_16, CONV | {"packing": 2, "conditioning": "projection"}, "--packing 2 does not go with"),
    (IMAGES_32, SNGAN | {"packing": 2}, "--packing 2 does not go with --architecture sngan"),
    (
        IMAGES_32,
        SNGAN | {"conditioning": "cgan"},
        "--conditioning cgan does not exist with --architecture sngan; choose",
    ),
    (IMAGES, {"conditioning": "acgan"}, "--conditioning acgan does not exist with --architecture mlp"),
    (IMAGES, {"class_weight": 2.0}, "--class_weight has no meaning with --conditioning none"),
    (
        VECTORS,
        {"conditioning": "cgan"},
        "--conditioning cgan needs labels, but builtin:toy2d has none; name the column",
    ),
    (VECTORS, {"critic_updates": 0}, "--critic_updates must be at least 1"),
    (VECTORS, {"packing": 0}, "--packing must be at least 1"),
    (IMAGES, CONV | {"conditioning": "acgan", "class_weight": -1.0}, "--class_weight must be at least 0"),
    (VECTORS, {"latent_dim": 0}, "--latent_dim must be at least 1"),
    (VECTORS, {"width": 4}, "--width has no meaning with --architecture mlp"),
    (VECTORS, {"discriminator_norm": "spectral"}, "--discriminator_norm has no meaning with --architecture mlp"),
    (VECTORS, {"norm_statistics": "batch"}, "--norm_statistics has no meaning with --architecture mlp"),
    (VECTORS, {"hidden_dims": [0]}, "hidden_dims"),
    (VECTORS, CONV, "--architecture dcgan needs images, but builtin:toy2d has vectors; use --architecture mlp"),
    (IMAGES_16, CONV | {"hidden_dims": [8]}, "--hidden_dims has no meaning with --architecture dcgan"),
    (IMAGES_16, CONV | {"width": 0}, "--width must be at least 1"),
    (
        IMAGES_32,
        SNGAN | {"discriminator_norm": "batch"},
        "--discriminator_norm batch does not exist with --architecture",
    ),
    (IMAGES, SNGAN, "do not lead from 4 to 8 pixels"),
]


@pytest.mark.parametrize(("data", "options", "message"), MISUSE)
def test_refused_options(data, options, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        objective_of(data, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("architecture", ["dcgan", "sngan"])
def test_images_of_twenty_eight_pixels_need_another_size(architecture):
    data = IMAGES_16.__class__(**{**vars(IMAGES_16), "size": 28})
    with pytest.raises(UserError, match=r"28.* is no power of two|to 28 pixels"):
        objective_of(data, **CONV | {"architecture": architecture})
    objective_of(data)  # a dense one takes them


def test_learning_rates():
    plain, separate = objective_of(), objective_of(discriminator_learning_rate=3e-4)
    assert [plain.param_groups(name)[0].get("lr") for name in ("generator", "discriminator")] == [None, None]
    assert [separate.param_groups(name)[0].get("lr") for name in ("generator", "discriminator")] == [None, 3e-4]
    for name, network in separate.networks.items():
        (group,) = separate.param_groups(name)
        assert len(group["params"]) == len(list(network.parameters()))


# saved networks ------------------------------------------------------------------------------------------------------


SAVED = [
    (VECTORS, MLP | {"packing": 2}),
    (IMAGES, MLP | {"conditioning": "cgan"}),
    (IMAGES_16, CONV | {"gradient_penalty": "r1", "norm_statistics": "batch", "conditioning": "projection"}),
    (IMAGES_32, CONV | {"architecture": "avae", "conditioning": "acgan", "discriminator_norm": "spectral"}),
    (IMAGES_32, SNGAN | {"gan_loss": "hinge"}),
]


@pytest.mark.parametrize("layout", ["output", "checkpoint"])
@pytest.mark.parametrize(("data", "options"), SAVED)
def test_from_saved_networks(data, options, layout, tmp_path):
    first = objective_of(data, **options)
    save_run(first, tmp_path, layout)
    assert (tmp_path / "training_networks" / "discriminator").is_dir() == (layout == "output")
    shapes = {"latent_dim", "architecture", "packing", "conditioning", "norm_statistics"}
    for given in (GANArguments(), GANArguments(**options)):
        if "gradient_penalty" in options:
            given.gradient_penalty = "r1"
        again = GANObjective.from_pretrained(tmp_path, given, data)
        assert_same_networks(again, first)
        assert {name: getattr(given, name) for name in shapes} == {name: getattr(first.args, name) for name in shapes}
        assert given.hidden_dims == first.args.hidden_dims and given.width == first.args.width
        assert again.batch_multiple == first.batch_multiple
        if options["architecture"] != "mlp":
            assert given.discriminator_norm == first.networks["discriminator"].config.norm


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 50}, "--latent_dim cannot be changed with --pretrained.*; the saved network has 3"),
        ({"packing": 2}, "--packing cannot be changed with --pretrained.*; the saved network has 1"),
        ({"conditioning": "cgan"}, "--conditioning cannot be changed with .*; the saved network has none"),
        ({"hidden_dims": [4]}, "--hidden_dims cannot be changed with .*; the saved network has 8"),
        ({"width": 4}, "--width cannot be changed with .*; the saved network has none"),
        ({"architecture": "avae"}, "--architecture cannot be changed with .*; the saved network has mlp"),
        ({"norm_statistics": "batch"}, "--norm_statistics cannot be changed with .*; the saved network has running"),
        (
            {"discriminator_norm": "layer"},
            "--discriminator_norm cannot be changed with .*; the saved network has none",
        ),
        ({"gan_loss": "wasserstein"}, "--gan_loss wasserstein needs a Lipschitz critic"),
        ({"gan_loss": "hinge", "gradient_penalty": "roth"}, "exclude each other"),
    ],
)
def test_saved_networks_and_options_that_contradict_them(options, message, tmp_path):
    save_run(objective_of(), tmp_path, "output")
    with pytest.raises(UserError, match=message) as error:
        GANObjective.from_pretrained(tmp_path, GANArguments(**options), VECTORS)
    assert "\n" not in str(error.value)


def test_dense_options_and_saved_convolutions(tmp_path):
    save_run(objective_of(IMAGES_16, **CONV), tmp_path, "output")
    with pytest.raises(UserError, match=r"--hidden_dims cannot be changed with .*; the saved network has none"):
        GANObjective.from_pretrained(tmp_path, GANArguments(hidden_dims=[8]), IMAGES_16)
    with pytest.raises(UserError, match="--discriminator_norm batch and --gradient_penalty r1 exclude each other"):
        GANObjective.from_pretrained(tmp_path, GANArguments(gradient_penalty="r1"), IMAGES_16)


def test_saved_networks_that_do_not_fit(tmp_path):
    objective = objective_of(IMAGES, conditioning="cgan")
    save_run(objective, tmp_path, "output")
    place = tmp_path / "training_networks" / "discriminator"
    with pytest.raises(UserError, match=r"takes samples of shape \(1, 8, 8\), builtin:toy2d has \(2,\)"):
        GANObjective.from_pretrained(tmp_path, GANArguments(), VECTORS)
    fewer = IMAGES.__class__(**{**vars(IMAGES), "class_names": ("a", "b")})
    with pytest.raises(UserError, match="the saved networks know 3 classes, builtin:digits has 2"):
        GANObjective.from_pretrained(tmp_path, GANArguments(), fewer)
    unlabelled = IMAGES.__class__(**{**vars(IMAGES), "class_names": None})
    with pytest.raises(UserError, match="this model needs labels, but builtin:digits has none"):
        GANObjective.from_pretrained(tmp_path, GANArguments(), unlabelled)

    objective.networks["generator"].save_pretrained(str(place))
    with pytest.raises(
        UserError, match="holds a MLPGenerator; discriminator must be DCGANDiscriminator or SNGAN"
    ) as e:
        GANObjective.from_pretrained(tmp_path, GANArguments(), IMAGES)
    assert str(place) in str(e.value) and "\n" not in str(e.value)

    place.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"holds no discriminator \(discriminator/ or training_networks/disc") as e:
        GANObjective.from_pretrained(tmp_path, GANArguments(), IMAGES)
    assert "\n" not in str(e.value)


# inference -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options"), [(VECTORS, {}), (IMAGES, {"conditioning": "cgan"}), (IMAGES_16, CONV | {"packing": 2})]
)
def test_pictures_and_watched_samples(data, options):
    objective = objective_of(data, **options)
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
