"""BEGAN's losses against slow formulas, and the control of k: its value, its range, micro-batches, checkpoints."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from hf_genmodels.families.began import BEGANArguments, build, reload
from hf_genmodels.objectives.began import BEGANObjective
from tests.testing_utils.adversarial_objectives import (
    assert_only_trains,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
)
from tests.testing_utils.adversaries import make_loop
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

SMALL: dict[str, dict[str, Any]] = {
    "builtin:digits": {"latent_dim": 3, "width": 2},
    "builtin:toy2d": {"latent_dim": 3, "hidden_dims": [4]},
}


def objective_of(data=IMAGES, **options) -> BEGANObjective:
    torch.manual_seed(0)
    return build(BEGANArguments(**SMALL[data.name] | options), data)


def slow_error(objective: BEGANObjective, samples: torch.Tensor) -> torch.Tensor:
    """The mean of |v - D(v)|, one sample and one entry after the other."""
    terms = []
    for sample in samples:
        restored = objective.networks["discriminator"](sample[None]).reconstruction[0]
        terms += [(a - b).abs() for a, b in zip(sample.flatten(), restored.flatten(), strict=True)]
    return sum(terms, torch.zeros(())) / len(terms)


def after_update(objective: BEGANObjective, phase=None, gather=lambda tensor: tensor) -> None:
    """As the loop calls it, by default after the discriminator's phase in a single process."""
    objective.after_update(phase or objective.phases[0], objective.networks, seeded_noise(), gather)


def update_k(objective: BEGANObjective, pairs: list[tuple[float, float]]) -> float:
    """k after an update whose micro-batches had these L(x) and L(G(z))."""
    objective.measured = [torch.tensor(pair) for pair in pairs]
    after_update(objective)
    return objective.k.item()


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_losses(data):
    objective, batch, cache = objective_of(data), make_batch(data), {}
    objective.k = torch.tensor(0.3)

    def fakes_of(seed):
        return objective.networks["generator"](seeded_noise(seed).normal((5, 3), like=batch["image"])).sample

    losses = phase_losses(objective, "discriminator", batch, cache, seed=8)
    real, fake = slow_error(objective, batch["image"]), slow_error(objective, fakes_of(8).detach())
    assert_same_loss(losses["loss"], real - 0.3 * fake, objective, ("discriminator",))
    assert losses["real"].item() == pytest.approx(real.item(), rel=1e-5)
    assert losses["fake"].item() == pytest.approx(fake.item(), rel=1e-5)
    expected = real.item() + abs(0.5 * real.item() - fake.item())
    assert losses["convergence"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["k"].item() == pytest.approx(0.3)
    assert_only_trains(objective, "discriminator", batch)

    losses = phase_losses(objective, "generator", batch, cache, seed=7)
    assert_same_loss(losses["loss"], slow_error(objective, fakes_of(7)), objective, ("generator",))
    assert not cache


def test_phases():
    assert [(phase.name, phase.trains, phase.updates, phase.reuse_batch) for phase in BEGANObjective.phases] == [
        ("discriminator", ("discriminator",), 1, False),
        ("generator", ("generator",), 1, True),
    ]


def test_k_follows_the_losses_of_the_discriminators_update():
    objective, batch = objective_of(gamma=0.7, lambda_k=0.5), make_batch(IMAGES)
    objective.k = torch.tensor(0.2)
    losses = phase_losses(objective, "discriminator", batch)
    after_update(objective)
    expected = 0.2 + 0.5 * (0.7 * losses["real"].item() - losses["fake"].item())
    assert 0 < expected < 1 and objective.k.item() == pytest.approx(expected, rel=1e-5)
    phase_losses(objective, "generator", batch)
    after_update(objective, objective.phases[1])
    assert objective.k.item() == pytest.approx(expected, rel=1e-5)
    assert not objective.measured and not objective.k.requires_grad


def test_k_is_updated_with_the_mean_over_micro_batches_and_processes():
    objective = objective_of(lambda_k=0.1)
    assert update_k(objective, [(1.0, 0.2), (3.0, 0.4)]) == pytest.approx(0.1 * (0.5 * 2.0 - 0.3))
    other = torch.tensor([4.0, 0.5])  # what another process has measured
    objective.measured = [torch.tensor([2.0, 0.1])]
    after_update(objective, gather=lambda tensor: torch.cat([tensor, other[None]]))
    assert objective.k.item() == pytest.approx(0.07 + 0.1 * (0.5 * 3.0 - 0.3))


def test_k_stays_between_0_and_1():
    objective = objective_of(lambda_k=1.0)
    assert update_k(objective, [(0.1, 5.0)]) == 0
    assert update_k(objective, [(9.0, 0.1)]) == 1
    assert update_k(objective, [(9.0, 0.1)]) == 1
    assert update_k(objective, [(1.0, 0.75)]) == pytest.approx(0.75)


def test_k_does_not_depend_on_how_the_batch_is_divided(tmp_path):
    values = []
    for divided in ({}, {"train_batch_size": 4, "gradient_accumulation_steps": 2}):
        objective = objective_of(VECTORS, lambda_k=0.5)
        loop = make_loop(objective, tmp_path / str(len(values)), **divided)
        loop.prepare(None)
        for _ in range(3):
            loop.training_step()
        values.append(objective.k.item())
    assert 0 < values[0] < 1
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_k_survives_a_checkpoint(tmp_path):
    objective = objective_of()
    assert objective.k.item() == 0
    objective.k = torch.tensor(0.625)
    torch.save(objective.state_dict(), tmp_path / "state.pt")
    again = objective_of()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.k.item() == 0.625


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_pictures_and_watched_samples(data):
    objective, batch = objective_of(data), make_batch(data)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.config.value_scale == data.value_scale
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    expected = pipeline(batch_size=5, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert torch.equal(pictures["samples"], expected)
    assert pictures.keys() == ({"samples"} if data.is_image else {"samples", "data"})
    with torch.no_grad():
        watched = objective.watched_samples(objective.networks, 7, torch.Generator().manual_seed(3))
        latents = torch.randn(7, 3, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(watched, objective.networks["generator"](latents).sample)


def test_options_shape_the_networks():
    networks = objective_of(width=3, latent_dim=5).networks
    for network in networks.values():
        assert (network.config.sample_size, network.config.latent_dim, network.config.width) == (8, 5, 3)
    assert objective_of(width=None).networks["generator"].config.width == 64
    assert objective_of(VECTORS).networks["discriminator"].config.hidden_dims == (4,)
    assert objective_of(VECTORS, hidden_dims=None).networks["generator"].config.hidden_dims == (128, 128)


def test_only_the_discriminator_has_a_learning_rate_of_its_own():
    objective = objective_of(discriminator_learning_rate=0.003)
    assert objective.param_groups("discriminator")[0]["lr"] == 0.003
    assert "lr" not in objective.param_groups("generator")[0]
    assert "lr" not in objective_of().param_groups("discriminator")[0]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            IMAGES,
            {"hidden_dims": [4]},
            "--hidden_dims has no meaning for images, which builtin:digits has; leave it out",
        ),
        (VECTORS, {"width": 4}, "--width has no meaning for vectors, which builtin:toy2d has; leave it out"),
        (IMAGES, {"latent_dim": 0}, "--latent_dim must be at least 1"),
        (IMAGES, {"width": 0}, "--width must be at least 1"),
        (VECTORS, {"hidden_dims": [0]}, "--hidden_dims must be at least 1, got 0"),
        (IMAGES, {"gamma": 1.5}, "--gamma must be from 0 to 1, got 1.5"),
        (IMAGES, {"gamma": float("nan")}, "--gamma must be from 0 to 1, got nan"),
        (
            IMAGES,
            {"discriminator_learning_rate": 0.0},
            "--discriminator_learning_rate must be positive, got 0.0",
        ),
        (IMAGES, {"lambda_k": -0.1}, "--lambda_k must be from 0 to 1, got -0.1"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        objective_of(data, **options)


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
@pytest.mark.parametrize("layout", ["output", "checkpoint"])
def test_from_saved_networks(data, layout, tmp_path):
    first = objective_of(data)
    folder = save_run(first, tmp_path, layout)
    args = BEGANArguments(gamma=0.25)
    again = reload(folder, args, data)
    assert_same_networks(again, first)
    assert again.gamma == 0.25 and again.k.item() == 0
    assert {name: getattr(args, name) for name in SMALL[data.name]} == SMALL[data.name]
    with refused(r"--latent_dim cannot be changed with .*; the saved network has 3"):
        reload(folder, BEGANArguments(latent_dim=9), data)
    with refused("--gamma must be from 0 to 1"):
        reload(folder, BEGANArguments(gamma=-1.0), data)
    with refused("--discriminator_learning_rate must be positive"):
        reload(folder, BEGANArguments(discriminator_learning_rate=0.0), data)
    with refused("the pretrained network takes samples of shape"):
        reload(folder, BEGANArguments(), VECTORS if data.is_image else IMAGES)
