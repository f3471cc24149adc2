"""InfoGAN's losses against slow formulas, what each phase trains, its options and saved networks."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from hf_genmodels import InfoGANDiscriminator, MLPGenerator
from hf_genmodels.families.infogan import InfoGANArguments, build, reload
from hf_genmodels.objectives.infogan import InfoGANObjective
from tests.losses.test_information import slow_categorical, slow_gaussian
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
    (IMAGES, MLP | {"num_categories": 4, "num_codes": 2}),
    (VECTORS, MLP | {"num_categories": 3, "num_codes": 0}),
    (IMAGES_16, DCGAN | {"num_categories": 0, "num_codes": 3}),
]


def objective_of(data=IMAGES, **options) -> InfoGANObjective:
    torch.manual_seed(0)
    return build(InfoGANArguments(**options), data)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_losses(data, options):
    weights = {name: 0.7 for name, codes in (("category", "num_categories"), ("code", "num_codes")) if options[codes]}
    objective = objective_of(data, **options, **{f"{name}_weight": weight for name, weight in weights.items()})
    batch, discriminator = make_batch(data), objective.networks["discriminator"]

    def fakes_of(seed):
        noise = seeded_noise(seed)
        latents = noise.normal((5, 3), like=batch["image"])
        count = options["num_categories"]
        labels = (noise.uniform((5,), like=latents) * count).long() if count else None
        return latents, labels, objective.networks["generator"](latents, labels).sample

    def slow_information(judged, latents, labels):
        total = torch.zeros(())
        if labels is not None:
            total = total + slow_categorical(judged.class_logits, labels)
        if options["num_codes"]:
            codes = latents[:, : options["num_codes"]]
            total = total + slow_gaussian(judged.code_mean, judged.code_log_std, codes)
        return total

    losses = phase_losses(objective, "discriminator", batch, seed=9)
    latents, labels, fake = fakes_of(9)
    judged, on_real = discriminator(fake.detach()), discriminator(batch["image"])
    information = slow_information(judged, latents, labels)
    expected = slow_adversarial_terms("non_saturating", list(on_real.logits), list(judged.logits))[1]
    assert_same_loss(losses["loss"], expected - 0.7 * information, objective, ("discriminator",))
    assert losses["information"].item() == pytest.approx(information.item(), rel=1e-4)
    right = [float(d > 0) for d in on_real.logits] + [float(d < 0) for d in judged.logits]
    assert losses["accuracy"].item() == pytest.approx(sum(right) / 10)
    assert_only_trains(objective, "discriminator", batch)

    losses = phase_losses(objective, "generator", batch, seed=7)
    latents, labels, fake = fakes_of(7)
    judged = discriminator(fake)
    information = slow_information(judged, latents, labels)
    expected = slow_adversarial_terms("non_saturating", [], list(judged.logits))[0]
    assert_same_loss(losses["loss"], expected - 0.7 * information, objective, ("generator",))
    assert losses["information"].item() == pytest.approx(information.item(), rel=1e-4)


def test_the_networks_learn_to_tell_the_codes():
    objective, batch = objective_of(VECTORS, **MLP, num_categories=3, num_codes=1), make_batch(VECTORS, 64)
    optimizers = {
        name: torch.optim.Adam(network.parameters(), lr=0.01) for name, network in objective.networks.items()
    }
    values = []
    for step in range(60):
        for name, optimizer in optimizers.items():
            losses = phase_losses(objective, name, batch, seed=step)
            optimizer.zero_grad()
            losses["loss"].backward()
            optimizer.step()
        values.append(losses["information"].item())
    assert values[-1] > values[0] + 0.5


def test_pictures_have_no_names_of_the_datas_classes():
    objective, batch = objective_of(**MLP, num_categories=3, num_codes=1), make_batch(IMAGES)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.id2label is None and pipeline.num_classes == len(IMAGES.class_names)
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    assert pictures["samples"].shape == (5, 1, 8, 8) and pictures["categories"].shape == (9, 1, 8, 8)
    with torch.no_grad():
        watched = objective.watched_samples(objective.networks, 4, torch.Generator().manual_seed(3))
        latents = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
        expected = objective.networks["generator"](latents, torch.tensor([0, 1, 2, 0])).sample
    torch.testing.assert_close(watched, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_categories": 1}, "--num_categories must be 0 (none) or at least 2, got 1"),
        ({"num_codes": 4}, "--num_codes must be from 0 to --latent_dim 3, got 4"),
        ({"num_categories": 0, "num_codes": 0}, "--num_categories 0 and --num_codes 0 leave no code"),
        ({"category_weight": -1.0}, "--category_weight must be at least 0 and finite, got -1.0"),
        ({"num_codes": 0, "code_weight": 0.5}, "--code_weight has no meaning without such codes; leave it out"),
        ({"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive"),
    ],
)
def test_refused_options(options, message):
    with refused(re.escape(message)):
        objective_of(**MLP | options)


def test_networks_of_different_codes_are_refused():
    with refused("InfoGANObjective: the generator takes no categories, the discriminator recognises 10"):
        InfoGANObjective(MLPGenerator(3, 2), InfoGANDiscriminator(2, None), VECTORS)
    with refused("code_weight must be at least 0 and finite, got inf"):
        InfoGANObjective(MLPGenerator(3), InfoGANDiscriminator(2, None, None), VECTORS, code_weight=float("inf"))


@pytest.mark.parametrize(("data", "options"), CASES)
@pytest.mark.parametrize("layout", ["output", "checkpoint"])
def test_from_saved_networks(data, options, layout, tmp_path):
    first = objective_of(data, **options)
    folder = save_run(first, tmp_path, layout)
    args = InfoGANArguments()
    again = reload(folder, args, data)
    assert_same_networks(again, first)
    assert {name: getattr(args, name) for name in options} == options
    with refused("--num_categories cannot be changed with .*; the saved network has"):
        reload(folder, InfoGANArguments(num_categories=7), data)
    with refused("the pretrained network takes samples of shape"):
        reload(folder, InfoGANArguments(), VECTORS if data.is_image else IMAGES)
