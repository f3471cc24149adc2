"""The tempered GAN's losses against slow formulas, what each phase sees, and the schedule of lambda."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from hf_genmodels.families.tempered_gan import TemperedGANArguments, build, reload
from hf_genmodels.objectives.tempered_gan import TemperedGANObjective, adversarial_weight
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
)
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

CASES: list[tuple[Any, dict[str, Any]]] = [
    (IMAGES, MLP | {"lens_width": 2}),
    (VECTORS, MLP),
    (IMAGES_16, DCGAN | {"lens_width": 2}),
]


def objective_of(data=IMAGES, **options) -> TemperedGANObjective:
    torch.manual_seed(0)
    return build(TemperedGANArguments(**options), data)


def logits_of(objective: TemperedGANObjective, samples: torch.Tensor) -> list[torch.Tensor]:
    return list(objective.networks["discriminator"](samples).logits)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_losses(data, options):
    objective, batch, cache = objective_of(data, **options), make_batch(data), {}
    objective.adversarial_weight = 0.4
    image = batch["image"]

    def fakes_of(seed):
        return objective.networks["generator"](seeded_noise(seed).normal((5, 3), like=image)).sample

    losses = phase_losses(objective, "discriminator", batch, cache, seed=9)
    seen = objective.networks["lens"](image).sample
    on_seen, on_fake = logits_of(objective, seen.detach()), logits_of(objective, fakes_of(9).detach())
    expected = slow_adversarial_terms("non_saturating", on_seen, on_fake)[1]
    assert_same_loss(losses["loss"], expected, objective, ("discriminator",))
    right = [float(d > 0) for d in on_seen] + [float(d < 0) for d in on_fake]
    assert losses["accuracy"].item() == pytest.approx(sum(right) / 10)
    assert_only_trains(objective, "discriminator", batch)

    losses = phase_losses(objective, "generator", batch, cache, seed=7)
    expected = slow_adversarial_terms("non_saturating", [], logits_of(objective, fakes_of(7)))[0]
    assert_same_loss(losses["loss"], expected, objective, ("generator",))

    losses = phase_losses(objective, "lens", batch, cache, seed=8)
    seen = objective.networks["lens"](image).sample
    fooled = sum(-torch.log(1 - 1 / (1 + torch.exp(-d))) for d in logits_of(objective, seen)) / 5
    squares = [(a - b) ** 2 for a, b in zip(seen.flatten(), image.flatten(), strict=True)]
    distortion = sum(squares) / len(squares)
    assert_same_loss(losses["loss"], 0.4 * fooled + distortion, objective, ("lens",))
    assert losses["adversarial"].item() == pytest.approx(fooled.item(), rel=1e-4)
    assert losses["distortion"].item() == pytest.approx(distortion.item(), rel=1e-4)
    assert not cache


def test_phases():
    phases = TemperedGANObjective.phases
    assert [(phase.name, phase.trains, phase.updates, phase.reuse_batch) for phase in phases] == [
        ("discriminator", ("discriminator",), 1, False),
        ("generator", ("generator",), 1, True),
        ("lens", ("lens",), 1, True),
    ]


def test_the_lens_learns_to_lower_the_logit_of_the_data():
    objective, batch = objective_of(**MLP), make_batch(IMAGES)
    optimizer = torch.optim.SGD(objective.networks["lens"].parameters(), lr=0.01)
    values = []
    for _ in range(20):
        losses = phase_losses(objective, "lens", batch)
        values.append(losses["adversarial"].item())
        optimizer.zero_grad()
        losses["adversarial"].backward()
        optimizer.step()
    assert values[-1] < values[0]
    with torch.no_grad():
        seen = objective.networks["lens"](batch["image"]).sample
        assert sum(logits_of(objective, seen)) < sum(logits_of(objective, batch["image"]))


def test_without_adversarial_weight_the_lens_learns_the_identity_alone():
    objective, batch = objective_of(**MLP), make_batch(IMAGES)
    objective.before_step(5000)
    losses = phase_losses(objective, "lens", batch)
    assert losses["loss"].item() == losses["distortion"].item() > 0


def test_lambda_falls_from_1_to_0():
    objective = objective_of(**MLP, lens_steps=200)
    for step, expected in (
        (0, 1.0),
        (50, 1 - math.sin(math.pi / 8)),
        (100, 1 - math.sqrt(0.5)),
        (200, 0.0),
        (201, 0.0),
    ):
        objective.before_step(step)
        assert objective.adversarial_weight == pytest.approx(expected, abs=1e-12)
    objective.before_step(600)  # where the sine is -1
    assert objective.adversarial_weight == 0
    weights = [adversarial_weight(step, 7) for step in range(8)]
    assert weights == sorted(weights, reverse=True) and len(set(weights)) == 8
    assert adversarial_weight(1, 1) == 0


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_pictures_and_watched_samples(data):
    objective, batch = objective_of(data, **MLP), make_batch(data)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.config.value_scale == data.value_scale
    with torch.no_grad():
        pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
        seen = objective.networks["lens"](batch["image"]).sample
        watched = objective.watched_samples(objective.networks, 7, torch.Generator().manual_seed(3))
        latents = torch.randn(7, 3, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(watched, objective.networks["generator"](latents).sample)
    shown = pictures.pop("data through the lens")
    torch.testing.assert_close(shown, ((seen + 1) / 2).clamp(0, 1) if data.is_image else seen)
    expected = pipeline(batch_size=5, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert torch.equal(pictures["samples"], expected)
    assert pictures.keys() == ({"samples"} if data.is_image else {"samples", "data"})


def test_options_shape_the_networks():
    networks = objective_of(IMAGES_16, **DCGAN, discriminator_norm="layer").networks
    assert (networks["lens"].config.width, networks["lens"].config.sample_size) == (64, 16)
    assert networks["discriminator"].config.norm == "layer" and networks["generator"].config.width == 2
    lens = objective_of(VECTORS, **MLP).networks["lens"].config
    assert (lens.in_channels, lens.sample_size, lens.hidden_dims) == (2, None, (8,))
    assert objective_of(**MLP, lens_width=3).networks["lens"].config.width == 3


def test_only_the_discriminator_has_a_learning_rate_of_its_own():
    objective = objective_of(**MLP, discriminator_learning_rate=0.003)
    assert objective.param_groups("discriminator")[0]["lr"] == 0.003
    assert "lr" not in objective.param_groups("generator")[0] | objective.param_groups("lens")[0]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (IMAGES, MLP | {"lens_steps": 0}, "--lens_steps must be at least 1, got 0"),
        (IMAGES, MLP | {"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive"),
        (IMAGES, MLP | {"lens_width": 0}, "--lens_width must be at least 1, got 0"),
        (
            VECTORS,
            MLP | {"lens_width": 4},
            "--lens_width has no meaning for vectors, which builtin:toy2d has; leave it",
        ),
        (VECTORS, DCGAN, "--architecture dcgan needs images, but builtin:toy2d has vectors"),
        (IMAGES, MLP | {"discriminator_norm": "batch"}, "--discriminator_norm has no meaning with --architecture mlp"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        objective_of(data, **options)


@pytest.mark.parametrize(("data", "options"), CASES)
@pytest.mark.parametrize("layout", ["output", "checkpoint"])
def test_from_saved_networks(data, options, layout, tmp_path):
    first = objective_of(data, **options)
    folder = save_run(first, tmp_path, layout)
    args = TemperedGANArguments(lens_steps=9)
    again = reload(folder, args, data)
    assert_same_networks(again, first)
    again.before_step(9)
    assert again.adversarial_weight == 0
    assert {name: getattr(args, name) for name in options} == options
    for wrong, message in (
        ({"latent_dim": 9}, "--latent_dim cannot be changed with .*; the saved network has 3"),
        ({"lens_steps": 0}, "--lens_steps must be at least 1"),
        ({"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive"),
    ):
        with refused(message):
            reload(folder, TemperedGANArguments(**wrong), data)
    with refused("the pretrained network takes samples of shape"):
        reload(folder, TemperedGANArguments(), VECTORS if data.is_image else IMAGES)
