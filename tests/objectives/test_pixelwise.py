"""Generation from known pixels: both modes against a slow computation, what the discriminator sees, options."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch

from hf_genmodels.data import Layout
from hf_genmodels.families import pixelwise
from hf_genmodels.families.pixelwise import PixelwiseArguments, reload
from hf_genmodels.losses.constraints import constraint_loss, sample_mask
from hf_genmodels.objectives.base import Noise
from hf_genmodels.objectives.pixelwise import PixelwiseObjective
from tests.testing_utils.adversarial_objectives import (
    IMAGES_16,
    assert_only_trains,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
    slow_adversarial_terms,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

DATA = dataclasses.replace(IMAGES_16, channels=2, class_names=None)
TINY = {"width": 2, "num_residual_blocks": 1, "known_pixels": 0.02}
DCGAN = {"width": 2, "architecture": "dcgan", "known_pixels": 0.02}
KNOWN = 5  # 0.02 of 256 pixels


def arguments(**options) -> PixelwiseArguments:
    return PixelwiseArguments(**{**TINY, **options})


def build(data=DATA, **options) -> PixelwiseObjective:
    torch.manual_seed(0)
    return pixelwise.build(arguments(**options), dataclasses.replace(data, other=data))


def make(data=DATA, count: int = 4):
    batch = make_batch(data, count)
    return {"image": batch["image"], "constraint_image": make_batch(data, count, seed=1)["image"]}


# losses --------------------------------------------------------------------------------------------------------------


def slow_losses(objective, args, batch, seed, phase):
    """One phase by its formulas, pack by pack, from the same random numbers in the order in which they are drawn."""
    noise, packing = seeded_noise(seed), args.packing
    image, source = batch["image"], batch["constraint_image"]
    is_cgan = args.conditioning == "cgan"

    def constraints(of):
        uniform = noise.uniform((len(of), 1, 16, 16), like=of)
        mask = sample_mask(uniform, args.known_pixels)
        return of * mask, mask

    if not is_cgan:
        source = source[::packing]
    values, mask = constraints(source)
    if not is_cgan:
        values, mask, source = (
            torch.stack([each for each in t for _ in range(packing)]) for t in (values, mask, source)
        )
    latents = noise.uniform((len(source), *objective.networks["generator"].latent_shape), like=image) * 2 - 1
    fake = objective.networks["generator"](values, mask, latents).sample

    def logits(sample, y, m):
        sample = sample + 0.1 * noise.normal(tuple(sample.shape), like=sample)
        seen = torch.cat([sample, y, m], 1) if is_cgan else sample
        judge = objective.networks["discriminator"]
        return [judge(seen[start : start + packing]).logits for start in range(0, len(seen), packing)]

    on_real = []
    if phase == "discriminator":
        on_real = logits(image, *(constraints(image) if is_cgan else (values, mask)))
    on_fake = logits(fake, values, mask)
    generator, discriminator = slow_adversarial_terms(args.gan_loss, on_real or on_fake, on_fake)
    if is_cgan:
        return {"generator": generator, "discriminator": discriminator}
    total, count = torch.zeros(()), 0
    for index in range(len(fake)):
        for row, column in mask[index, 0].nonzero().tolist():
            for channel in range(fake.shape[1]):
                error = fake[index, channel, row, column] - source[index, channel, row, column]
                total = total + (error.abs() if args.constraint_noise == "laplacian" else error**2)
                count += 1
    assert count == len(fake) * KNOWN * fake.shape[1]
    weight = 1.0 if args.constraint_weight is None else args.constraint_weight
    return {"generator": generator + weight * total / count, "discriminator": discriminator}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"constraint_weight": 30.0, "gan_loss": "least_squares", "packing": 1},
        {"constraint_noise": "laplacian", "constraint_weight": 3.0},
        {"gan_loss": "hinge", "discriminator_norm": "layer", "packing": 4},
        {"conditioning": "cgan"},
        {"conditioning": "cgan", "gan_loss": "minimax", "packing": 1},
        DCGAN | {"num_residual_blocks": None},
    ],
)
def test_losses_of_both_phases(options):
    objective, args, batch = build(**options), arguments(**options), make()
    assert [phase.name for phase in objective.phases] == ["discriminator", "generator"]
    for phase, seed in (("discriminator", 7), ("generator", 8)):
        losses = phase_losses(objective, phase, batch, seed=seed)
        expected = slow_losses(objective, args, batch, seed, phase)
        assert_same_loss(losses["loss"], expected[phase], objective, (phase,))
    assert losses.keys() == ({"loss"} if args.conditioning == "cgan" else {"loss", "adversarial", "constraint"})


@pytest.mark.parametrize("conditioning", ["map", "cgan"])
def test_the_discriminators_loss_does_not_reach_the_generator(conditioning):
    assert_only_trains(build(conditioning=conditioning), "discriminator", make())


def judged_by(objective, batch, phase="discriminator"):
    """What the discriminator is shown in one phase."""
    seen: list[torch.Tensor] = []
    network = objective.networks["discriminator"]
    handle = network.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    phase_losses(objective, phase, batch)
    handle.remove()
    return seen


def test_a_maximum_a_posteriori_discriminator_never_sees_the_known_pixels():
    objective, batch = build(discriminator_input_noise=0.0), make()
    real, fake = judged_by(objective, batch)
    assert torch.equal(real, batch["image"])
    assert fake.shape == batch["image"].shape
    discriminator = objective.networks["discriminator"]
    assert discriminator.config.in_channels == 2 and discriminator.config.packing == 2
    other = {**batch, "constraint_image": batch["constraint_image"].flip(0)}
    assert torch.equal(judged_by(objective, other)[0], real)


def test_the_baselines_real_pair_is_an_image_and_its_own_pixels():
    objective, batch = build(conditioning="cgan", discriminator_input_noise=0.0), make()
    pairs = judged_by(objective, batch)
    assert objective.networks["discriminator"].config.in_channels == 5
    for pair, source in zip(pairs, ("image", "constraint_image"), strict=True):
        image, values, mask = pair.split([2, 2, 1], 1)
        assert mask.sum((1, 2, 3)).tolist() == [KNOWN] * 4
        assert torch.equal(values, batch[source] * mask)
        assert torch.equal(image, batch["image"]) == (source == "image")
    assert not torch.equal(pairs[0][:, 4], pairs[1][:, 4])


@pytest.mark.parametrize("conditioning", ["map", "cgan"])
def test_noise_on_images_alone(conditioning):
    quiet, noisy = (
        judged_by(build(IMAGES_16, conditioning=conditioning, discriminator_input_noise=std), make(IMAGES_16, 64))
        for std in (0.0, 0.1)
    )
    difference = noisy[0] - quiet[0]
    assert difference[:, :1].std().item() == pytest.approx(0.1, rel=0.05)
    if conditioning == "map":
        assert difference.shape[1] == 1
    else:  # the mask of a real image is drawn before the noise
        assert torch.equal(noisy[0][:, 1:], quiet[0][:, 1:])


def test_each_phase_draws_its_own_masks_and_noise():
    objective, batch = build(), make()
    seen = []
    network = objective.networks["generator"]
    network.register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    noise, cache = seeded_noise(), {}
    for phase in objective.phases:
        objective.losses(phase, objective.networks, batch, noise, cache)
    for first, second in zip(*seen, strict=True):
        assert not torch.equal(first, second)
    values, mask, latents = seen[0]
    assert latents.abs().max() <= 1 and latents.min() < -0.5 < 0.5 < latents.max()
    assert torch.equal(values[:2], batch["constraint_image"][:1] * mask[:2])


@pytest.mark.parametrize(("conditioning", "shared"), [("map", True), ("cgan", False)])
def test_samples_of_a_pack_share_their_map_unless_the_discriminator_sees_it(conditioning, shared):
    objective, batch = build(conditioning=conditioning), make()
    seen = []
    objective.networks["generator"].register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    for phase in ("discriminator", "generator"):
        phase_losses(objective, phase, batch)
    for values, mask, latents in seen:
        for tensor, is_shared in ((values, shared), (mask, shared), (latents, False)):
            assert torch.equal(tensor[0], tensor[1]) == torch.equal(tensor[2], tensor[3]) == is_shared
            assert not torch.equal(tensor[1], tensor[2])


# pictures and figures ------------------------------------------------------------------------------------------------


def test_held_out_figures_of_each_map():
    objective, batch = build(), make()
    networks = {name: network.eval() for name, network in objective.networks.items()}
    figures = objective.evaluate(networks, batch, torch.Generator().manual_seed(7))
    noise = Noise.seeded_by(torch.Generator().manual_seed(7))
    mask = sample_mask(noise.uniform((4, 1, 16, 16), like=batch["image"]), 0.02)
    latents = 2 * noise.uniform((4, 1, 4, 4), like=batch["image"]) - 1
    sample = networks["generator"](batch["constraint_image"] * mask, mask, latents).sample
    for index in range(4):
        squared = [
            ((sample - batch["constraint_image"])[index, :, row, column] ** 2).sum().item()
            for row, column in mask[index, 0].nonzero().tolist()
        ]
        assert figures["constraint_mse"][index].item() == pytest.approx(sum(squared) / KNOWN / 2, rel=1e-5)
        assert figures["constraints_satisfied"][index].item() == sum(s < 0.2 for s in squared) / KNOWN


def test_a_batch_without_maps_has_no_figures():
    objective, batch = build(), make()
    batch["constraint_image"] = batch["constraint_image"][:0]
    assert objective.evaluate(objective.networks, batch, torch.Generator()) == {}


def test_pictures_show_known_pixels_and_several_samples():
    objective, batch = build(IMAGES_16), make(IMAGES_16, 10)
    pipeline = objective.pipeline(objective.networks)
    grid, colours = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0)).values()
    assert grid.shape == (64, 1, 16, 16) and grid.min() >= 0 and grid.max() <= 1
    rows = grid.unflatten(0, (8, 8))
    image = (batch["constraint_image"][:8] + 1) / 2
    torch.testing.assert_close(rows[:, 0], image)
    known = rows[:, 1] != 0.5
    assert 0 < known.sum() <= 8 * KNOWN
    torch.testing.assert_close(rows[:, 1][known], image[known])
    assert all(not torch.equal(rows[:, 2], rows[:, index]) for index in range(3, 8))
    green, red = (colours[:, channel].unflatten(0, (8, 8)) > 0.5 for channel in (1, 0))
    error = (rows[:, 2:] - rows[:, :1]).square().squeeze(2) * 4  # on [-1, 1]
    known_map = (green | red)[:, 0]
    assert torch.equal(known_map, known[:, 0] | (known_map & (rows[:, 1, 0] == 0.5)))
    for side, holds in ((green, error < 0.1), (red, error >= 0.1)):
        assert torch.equal(side[:, 2:], holds & known_map[:, None])
    assert torch.equal(green[:, 0], green[:, 2:].any(1)) and torch.equal(green[:, 1], green[:, 2:].all(1))


def test_watched_samples_are_the_same_at_every_call():
    objective = build()
    networks = {name: network.eval() for name, network in objective.networks.items()}
    with torch.no_grad():
        first, again = (objective.watched_samples(networks, 6, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (6, 2, 16, 16)
    assert torch.equal(first, again) and not torch.equal(first[0], first[1])


# networks and options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({"constraint_noise": "poisson", "constraint_peak": 30.0}, {"peak": 30.0}),
        ({"constraint_noise": "beta", "constraint_concentration": 9.0}, {"concentration": 9.0}),
        ({"constraint_noise": "beta"}, {"concentration": 100.0}),
    ],
)
def test_other_noise_takes_its_parameter(options, loss):
    objective, batch = build(constraint_weight=2.0, **options), make()
    seen = []
    objective.networks["generator"].register_forward_hook(
        lambda module, arguments, result: seen.append((result.sample, *arguments[:2]))
    )
    losses = phase_losses(objective, "generator", batch)
    expected = constraint_loss(*seen[0], options["constraint_noise"], **loss)
    assert losses["constraint"].item() == pytest.approx(expected.item())
    assert losses["loss"].item() == pytest.approx((losses["adversarial"] + 2 * expected).item())


@pytest.mark.parametrize("size", [(12, 12), (20, 28), (32, 36), (36, 44), (64, 68), (160, 160)])
def test_any_multiple_of_4_will_do(size):
    data = dataclasses.replace(DATA, size=size)
    objective = build(data, architecture="up_dil", num_residual_blocks=None)
    judge = objective.networks["discriminator"]
    rows = judge.trunk(torch.zeros(1, 4, *size)).shape[2:]
    assert min(rows) >= 3 and any(side % 2 or side == 4 for side in rows)
    assert judge(torch.zeros(2, 2, *size)).logits.shape == (1,)


def test_what_the_loop_has_to_know():
    objective = build(packing=4, discriminator_learning_rate=1e-3)
    assert objective.batch_multiple == 4 and objective.ema == ("generator",)
    assert pixelwise.FAMILY.layout(arguments()) == Layout("reserved")
    assert [objective.param_groups(name)[0].get("lr") for name in ("generator", "discriminator")] == [None, 1e-3]
    assert PixelwiseArguments.loop_defaults == {"learning_rate": 2e-4, "adam_beta1": 0.5}
    with refused("a batch of 6 samples cannot be packed by 4; use a multiple of 4"):
        phase_losses(objective, "discriminator", make(count=6))


@pytest.mark.parametrize("layout", ["output", "checkpoint"])
@pytest.mark.parametrize(
    "options",
    [
        {"latent_channels": 2, "packing": 1, "discriminator_norm": "layer"},
        {"conditioning": "cgan"},
        DCGAN | {"num_residual_blocks": None},
        {"architecture": "up_encdec", "num_residual_blocks": None, "num_halvings": 3},
        {"architecture": "res", "num_halvings": 2},
    ],
)
def test_saved_networks_are_taken_up_again(options, layout, tmp_path):
    objective = build(**options)
    folder = save_run(objective, tmp_path, layout)
    shaping = (
        "architecture",
        "width",
        "latent_channels",
        "num_residual_blocks",
        "num_halvings",
        "conditioning",
        "packing",
    )
    args, built = PixelwiseArguments(known_pixels=0.02), arguments(**options)
    again = reload(folder, args, DATA)
    assert_same_networks(again, objective)
    for name in (*shaping, "discriminator_norm"):
        assert getattr(args, name) == getattr(built, name)
    batch = make()
    for phase in ("discriminator", "generator"):
        ours, theirs = (phase_losses(each, phase, batch)["loss"] for each in (again, objective))
        torch.testing.assert_close(ours, theirs)


def test_saved_networks_cannot_be_changed(tmp_path):
    folder = save_run(build(conditioning="cgan"), tmp_path, "output")
    changes = {
        "width": (4, "--width cannot be changed with --pretrained_model_name_or_path; the saved network has 2"),
        "architecture": ("dcgan", "--architecture cannot be changed with --pretrained_model_name_or_path"),
        "constraint_weight": (2.0, "--constraint_weight has no meaning with --conditioning cgan; leave it out"),
    }
    for name, (value, message) in changes.items():
        with refused(message):
            reload(folder, PixelwiseArguments(**{name: value}), DATA)
    with refused(r"takes samples of shape \(2, 16, 16\), builtin:digits has \(1, 8, 8\)"):
        reload(folder, PixelwiseArguments(), IMAGES)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["generator"] == ["hf_genmodels", "PixelwiseGenerator"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditioning": "cgan", "constraint_weight": 1.0}, "--constraint_weight has no meaning with --conditioning"),
        ({"conditioning": "cgan", "constraint_noise": "laplacian"}, "--constraint_noise has no meaning with"),
        ({"constraint_weight": -1.0}, "--constraint_weight must be at least 0, got -1.0"),
        ({"known_pixels": 0.0}, "--known_pixels must be positive, got 0.0"),
        ({"known_pixels": 1.5}, "--known_pixels is a share of the pixels, at most 1, got 1.5"),
        ({"packing": 0}, "--packing must be at least 1, got 0"),
        ({"width": 0}, "--width must be at least 1, got 0"),
        ({"latent_channels": 0}, "--latent_channels must be at least 1, got 0"),
        ({"num_residual_blocks": -1}, "--num_residual_blocks must be at least 0, got -1"),
        ({"architecture": "dcgan"}, "--num_residual_blocks has no meaning with --architecture dcgan; leave it out"),
        ({"architecture": "up_dil"}, "--num_residual_blocks has no meaning with --architecture up_dil; leave it out"),
        ({"num_halvings": 3}, "--num_halvings has no meaning with --architecture unet_res; leave it out"),
        ({"architecture": "res", "num_halvings": 1}, "--num_halvings must be at least 2, got 1"),
        (
            {"constraint_peak": 9.0},
            "--constraint_peak has no meaning without --constraint_noise poisson; leave it out",
        ),
        (
            {"constraint_noise": "poisson", "constraint_concentration": 9.0},
            "has no meaning without --constraint_noise",
        ),
        ({"constraint_noise": "poisson", "constraint_peak": 0.0}, "--constraint_peak must be positive, got 0.0"),
        ({"discriminator_input_noise": -0.1}, "--discriminator_input_noise must be at least 0, got -0.1"),
        ({"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive, got 0.0"),
    ],
)
def test_refused_options(options, message):
    with refused(re.escape(message)):
        build(**options)


def test_a_wasserstein_critic_without_a_bound_is_refused_in_python():
    networks = build().networks
    with refused("gan_loss wasserstein needs a Lipschitz critic, and nothing bounds the slope of DCGANDiscriminator"):
        PixelwiseObjective(**networks, data=dataclasses.replace(DATA, other=DATA), gan_loss="wasserstein")


def test_refused_data():
    with refused("the family pixelwise needs images, but builtin:toy2d has vectors"):
        build(VECTORS)
    with refused("sides are multiples of 4, builtin:digits has 28x30; use --resolution 28 32"):
        build(dataclasses.replace(IMAGES, size=(28, 30)))
    with refused("sides are multiples of 8, builtin:digits has 28; use --resolution 32"):
        build(dataclasses.replace(IMAGES, size=(28, 28)), architecture="res", num_halvings=3)
    with refused("needs images of at least 8 pixels, builtin:digits has 4; use --resolution 8"):
        build(dataclasses.replace(IMAGES, size=(4, 4)))
    assert build().constraint_weight == 1.0
    assert build(num_residual_blocks=None).networks["generator"].config.num_residual_blocks == 4
