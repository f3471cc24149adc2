"""The denoising diffusion GAN's losses against formulas for one sample at a time; its options and what is saved."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from hf_genmodels import DiffusionGANPipeline
from hf_genmodels.families.diffusion_gan import DiffusionGANArguments, build, discriminator_channels, reload
from hf_genmodels.objectives.diffusion_gan import DiffusionGANObjective
from tests.testing_utils.adversarial_objectives import (
    assert_only_trains,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
    slope,
    slow_adversarial_terms,
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

SMALL = {"block_out_channels": [8], "layers_per_block": 1, "latent_dim": 3, "discriminator_channels": [4]}


def objective_of(data=IMAGES, **options) -> DiffusionGANObjective:
    torch.manual_seed(0)
    return build(DiffusionGANArguments(**SMALL | options), data)


def alpha_bar(step: int, steps: int) -> float:
    """What is left of the variance of x_0 after `step` of `steps` steps."""
    time = 0.001 + 0.999 * step / steps
    return math.exp(-(0.1 * time + 9.95 * time**2) + 0.1 * 0.001 + 9.95 * 0.001**2)


def slow_pairs(objective, batch, steps):
    """Rows of x_{t-1} of the data, x_t, x_{t-1} of the generator, t - 1; in the order in which `losses` draws."""
    image, noise = batch["image"], seeded_noise()
    places = noise.uniform((len(image),), like=image)
    first, second = (noise.normal(tuple(image.shape), like=image) for _ in range(2))
    latents = noise.normal((len(image), 3), like=image)
    third = noise.normal(tuple(image.shape), like=image)
    for row, place in enumerate(places):
        time = torch.tensor(int(place * steps))
        before, after = alpha_bar(int(time), steps), alpha_bar(int(time) + 1, steps)
        previous = math.sqrt(before) * image[row] + math.sqrt(1 - before) * first[row]
        ratio = after / before
        noisy = math.sqrt(ratio) * previous + math.sqrt(1 - ratio) * second[row]
        sample = objective.networks["generator"](noisy[None], time[None], latents[row : row + 1]).sample[0]
        if time == 0:
            fake = sample
        else:
            precision = 1 / (1 - before) + ratio / (1 - ratio)
            mean = math.sqrt(before) * sample / (1 - before) + math.sqrt(ratio) * noisy / (1 - ratio)
            fake = mean / precision + third[row] / math.sqrt(precision)
        yield previous, noisy, fake, time


@pytest.mark.parametrize(("data", "steps"), [(IMAGES, 4), (VECTORS, 2), (VECTORS, 1)])
def test_losses_of_all_phases(data, steps):
    objective = objective_of(data, diffusion_steps=steps, penalty_weight=0.7, penalty_every=3)
    batch = make_batch(data, 6)
    judge = objective.networks["discriminator"]
    real_logits, fake_logits, slopes = [], [], []
    for previous, noisy, fake, time in slow_pairs(objective, batch, steps):

        def critic(sample, noisy=noisy, time=time):
            return judge(sample[None], noisy[None], time[None]).logits

        real_logits.append(critic(previous))
        fake_logits.append(critic(fake))
        slopes.append(slope(critic, previous)[1])
    generator, discriminator = slow_adversarial_terms("non_saturating", real_logits, fake_logits)
    penalty = 0.35 * torch.stack(slopes).mean()
    for step, expected in ((0, discriminator + penalty), (1, discriminator), (3, discriminator + penalty)):
        objective.before_step(step)
        losses = phase_losses(objective, "discriminator", batch)
        assert_same_loss(losses["loss"], expected, objective, ("discriminator",))
        assert ("penalty" in losses) == (step != 1) and 0 <= losses["accuracy"] <= 1
    assert_same_loss(phase_losses(objective, "generator", batch)["loss"], generator, objective, ("generator",))


def test_the_discriminators_loss_leaves_the_generator_alone():
    assert_only_trains(objective_of(), "discriminator", make_batch(IMAGES))


def test_the_penalty_can_be_left_out():
    objective = objective_of(penalty_weight=0.0)
    objective.before_step(0)
    assert "penalty" not in phase_losses(objective, "discriminator", make_batch(IMAGES))
    assert not any(phase.double_backward for phase in objective.phases)


def test_pictures_and_what_is_saved(tmp_path):
    objective = objective_of(diffusion_steps=3)
    pipeline = objective.pipeline(objective.networks)
    assert type(pipeline) is DiffusionGANPipeline and pipeline.scheduler.config.num_train_timesteps == 3
    grid = objective.sample_grid(pipeline, make_batch(IMAGES, 3), torch.Generator().manual_seed(0))
    assert grid["samples"].shape == (3, 1, 8, 8)
    watched = objective.watched_samples(objective.networks, 4, torch.Generator().manual_seed(0))
    assert watched.shape == (4, 1, 8, 8) and watched.min() < 0
    for layout in ("output", "checkpoint"):
        folder = save_run(objective, tmp_path / layout, layout)
        args = DiffusionGANArguments(diffusion_steps=3 if layout == "checkpoint" else 4)
        again = reload(folder, args, IMAGES)
        assert_same_networks(objective, again)
        assert torch.equal(again.alpha_bars, objective.alpha_bars) and args.diffusion_steps == 3
    for changed in ({"diffusion_steps": 2}, {"latent_dim": 7}, {"discriminator_channels": [5]}):
        with refused(f"--{next(iter(changed))} cannot be changed with --pretrained_model_name_or_path"):
            reload(tmp_path / "output", DiffusionGANArguments(**changed), IMAGES)


@pytest.mark.parametrize(
    ("size", "widths"),
    [((8, 8), (64, 128)), ((28, 28), (64, 128, 128)), ((32, 64), (64, 128, 128, 128)), (None, (128, 128))],
)
def test_default_discriminators_fit_the_data(size, widths):
    data = dataclasses.replace(IMAGES, size=size)
    assert discriminator_channels(DiffusionGANArguments(), data) == widths


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diffusion_steps": 0}, "--diffusion_steps must be at least 1, got 0"),
        ({"penalty_every": 0}, "--penalty_every must be at least 1, got 0"),
        ({"penalty_weight": -1.0}, "--penalty_weight must be at least 0, got -1.0"),
        ({"latent_dim": 0}, "--latent_dim must be at least 1, got 0"),
        ({"dropout": 1.0}, "--dropout must lie in [0, 1), got 1.0"),
        ({"block_out_channels": [8] * 5}, "--block_out_channels has 5 levels, so height and width"),
        ({"discriminator_channels": [0]}, "--discriminator_channels must be at least 1, got 0"),
        ({"discriminator_channels": [4] * 5}, "TimeDiscriminator: 5 block_out_channels halve an image 4 times"),
        ({"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive, got 0.0"),
    ],
)
def test_refused_options(options, message):
    with refused(re.escape(message)):
        objective_of(**options)
