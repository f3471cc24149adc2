"""What the tests of adversarial objectives share: phases run as the loop runs them, slow formulas, saved runs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hf_genmodels import DataSpec
from hf_genmodels.families.gan import GANArguments, build
from hf_genmodels.objectives.base import Objective
from hf_genmodels.objectives.gan import GANObjective
from tests.testing_utils.objectives import IMAGES, VECTORS, seeded_noise

MLP: dict[str, Any] = {"architecture": "mlp", "hidden_dims": [8], "latent_dim": 3}
DCGAN: dict[str, Any] = {"architecture": "dcgan", "width": 2, "latent_dim": 3}
IMAGES_16 = dataclasses.replace(
    IMAGES, size=(16, 16)
)  # the smallest for which discriminators and encoders have a norm
IMAGES_32 = dataclasses.replace(IMAGES, size=(32, 32))

F_GANS = ("f_kl", "f_reverse_kl", "f_pearson", "f_squared_hellinger", "f_js")
GAN_LOSSES = ("minimax", "non_saturating", "linear_logit", "least_squares", "wasserstein", "hinge", *F_GANS)
GAN_PENALTIES = ("none", "wgan_gp", "zero_centred", "r1", "r2", "roth")
# Roth's regulariser is that of the cross-entropy; slopes of 1 are for losses without a sigmoid or a square.
GAN_REFUSED = {
    *(
        ("minimax", "wgan_gp"),
        ("non_saturating", "wgan_gp"),
        ("linear_logit", "wgan_gp"),
        ("least_squares", "wgan_gp"),
    ),
    *(("least_squares", "roth"), ("hinge", "roth"), ("wasserstein", "roth")),
    *(("wasserstein", "r1"), ("wasserstein", "r2")),
    *((kind, "wgan_gp") for kind in F_GANS),
    *((kind, "roth") for kind in F_GANS[:-1]),
}
GAN_ALLOWED = [pair for pair in itertools.product(GAN_LOSSES, GAN_PENALTIES) if pair not in GAN_REFUSED]


def gan_arguments(**options: Any) -> GANArguments:
    """The options, and `MLP` where they have no architecture."""
    return GANArguments(**({} if "architecture" in options else MLP) | options)


def gan_objective(data: DataSpec = VECTORS, **options: Any) -> GANObjective:
    """A GAN of `gan_arguments` with the weights of seed 0."""
    torch.manual_seed(0)
    return build(gan_arguments(**options), data)


def phase_losses(
    objective: Objective, name: str, batch: dict[str, Tensor], cache: dict[str, Any] | None = None, seed: int = 7
) -> dict[str, Tensor]:
    """Losses of one phase; as in the loop, the networks that it does not train have their gradients off."""
    (phase,) = (phase for phase in objective.phases if phase.name == name)
    for network_name, network in objective.networks.items():
        network.requires_grad_(network_name in phase.trains)
    cache = {} if cache is None else cache
    return objective.losses(phase, objective.networks, batch, seeded_noise(seed), cache)


def assert_only_trains(objective: Objective, name: str, batch: dict[str, Tensor]) -> None:
    """The phases up to `name` one after the other: its loss reaches the networks it trains, and no other one.

    All networks have their gradients on, so that a fake that is not cut off carries one to its generator.
    """
    cache: dict[str, Any] = {}
    for index, phase in enumerate(objective.phases):
        for network in objective.networks.values():
            network.requires_grad_(True)
        losses = objective.losses(phase, objective.networks, batch, seeded_noise(index), cache)
        if phase.name == name:
            losses["loss"].backward()
            for network_name, network in objective.networks.items():
                reached = any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
                assert reached == (network_name in phase.trains), network_name
            return
    raise AssertionError(f"there is no phase {name}")


def assert_same_loss(actual: Tensor, expected: Tensor, objective: Objective, trained: tuple[str, ...]) -> None:
    """Value, and gradient for every parameter of the networks of a phase."""
    assert actual.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    parameters = {f"{n}.{k}": p for n in trained for k, p in objective.networks[n].named_parameters()}
    ours, theirs = (
        torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, retain_graph=True)
        for loss in (actual, expected)
    )
    for name, one, other in zip(parameters, ours, theirs, strict=True):
        assert (one is None) == (other is None), name
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    assert any(one is not None and one.abs().sum() > 0 for one in ours)


def slow_adversarial_terms(kind: str, real: list[Tensor], fake: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What the generator and the discriminator minimise, by probabilities and one logit after the other."""

    def log_d(logit: Tensor) -> Tensor:
        return torch.log(1 / (1 + torch.exp(-logit)))

    def log_not_d(logit: Tensor) -> Tensor:
        return torch.log(1 - 1 / (1 + torch.exp(-logit)))

    generators: dict[str, Callable[[Tensor], Tensor]] = {
        "minimax": log_not_d,
        "non_saturating": lambda d: -log_d(d),
        "least_squares": lambda d: (d - 1) ** 2 / 2,
        "f_reverse_kl": lambda d: torch.exp(-d),
        "f_squared_hellinger": lambda d: torch.exp(-d) - 1,
        "f_js": lambda d: -math.log(2) - log_d(d),
    }
    discriminators: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
        "least_squares": (lambda d: (d - 1) ** 2 / 2, lambda d: d**2 / 2),
        "wasserstein": (lambda d: -d, lambda d: d),
        "hinge": (lambda d: (1 - d).clamp(min=0), lambda d: (1 + d).clamp(min=0)),
        "f_kl": (lambda d: -d, lambda d: torch.exp(d - 1)),
        "f_reverse_kl": (lambda d: torch.exp(-d), lambda d: d - 1),
        "f_pearson": (lambda d: -d, lambda d: d**2 / 4 + d),
        "f_squared_hellinger": (lambda d: torch.exp(-d) - 1, lambda d: torch.exp(d) - 1),
        "f_js": (lambda d: -math.log(2) - log_d(d), lambda d: -math.log(2) - log_not_d(d)),
    }
    of_generator = generators.get(kind, lambda d: -d)
    on_real, on_fake = discriminators.get(kind, (lambda d: -log_d(d), lambda d: -log_not_d(d)))
    generator = sum((of_generator(d) for d in fake), torch.zeros(())) / len(fake)
    discriminator = sum((on_real(d) for d in real), torch.zeros(())) / len(real)
    return generator.sum(), (discriminator + sum((on_fake(d) for d in fake), torch.zeros(())) / len(fake)).sum()


def slope(critic: Callable[[Tensor], Tensor], sample: Tensor) -> tuple[Tensor, Tensor]:
    """One logit and the squared norm of its gradient, which can be differentiated again."""
    sample = sample.detach().requires_grad_()
    logit = critic(sample)
    (gradient,) = torch.autograd.grad(logit.sum(), sample, create_graph=True)
    return logit, gradient.square().sum()


def slow_penalty(
    kind: str, weight: float, critic: Callable[[Tensor, int], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """A penalty on gradients, one sample (or pack) after the other.

    Args:
        kind: Of the penalty.
        weight: Its lambda or gamma.
        critic: (one sample or pack, its number) -> its logit.
        real: (count, ...) samples or packs.
        fake: Same shape.
        mix: (count,) weights of the data in interpolates.
    """
    total = torch.zeros(())
    for i in range(len(real)):
        of_real, of_fake = (slope(lambda x, i=i: critic(x, i), group[i]) for group in (real, fake))
        between = slope(lambda x, i=i: critic(x, i), mix[i] * real[i] + (1 - mix[i]) * fake[i])
        if kind == "wgan_gp":
            total = total + weight * (torch.sqrt(between[1]) - 1) ** 2
        elif kind == "zero_centred":
            total = total + weight * between[1]
        elif kind == "r1":
            total = total + weight / 2 * of_real[1]
        elif kind == "r2":
            total = total + weight / 2 * of_fake[1]
        elif kind == "roth":
            d_real, d_fake = (1 / (1 + torch.exp(-logit)) for logit in (of_real[0], of_fake[0]))
            total = total + weight / 2 * ((1 - d_real) ** 2 * of_real[1] + d_fake**2 * of_fake[1]).sum()
    return total / len(real)


def slow_cross_entropy(class_logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the softmax at the right class, mean over the batch."""
    total = torch.zeros(())
    for row, label in zip(class_logits, labels.tolist(), strict=True):
        total = total - torch.log(torch.exp(row[label]) / torch.exp(row).sum())
    return total / len(labels)


def slow_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, I)) of each sample: one sum over dimensions after the other."""
    rows = []
    for row in mean:
        terms = [(m**2 + torch.exp(s) ** 2) / 2 - 0.5 - s for m, s in zip(row, log_std, strict=True)]
        rows.append(sum(terms, torch.zeros(())))
    return torch.stack(rows)


def slow_mean_squared_error(made: Tensor, image: Tensor) -> list[float]:
    """Of each image, clamped and on the [0, 1] scale; of vectors as they are."""
    errors = []
    for one, other in zip(made.flatten(1).tolist(), image.flatten(1).tolist(), strict=True):
        if image.ndim == 4:
            one, other = [(min(1.0, max(-1.0, v)) + 1) / 2 for v in one], [(v + 1) / 2 for v in other]
        errors.append(math.fsum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / len(one))
    return errors


def save_run(objective: Objective, folder: Path, layout: str) -> Path:
    """The networks as a finished run leaves them ("output"), or as a checkpoint does ("checkpoint")."""
    for name, network in objective.networks.items():
        network.save_pretrained(str(folder / name))
    if layout == "checkpoint":
        return folder
    pipeline = objective.pipeline(objective.networks)
    assert pipeline is not None
    for name in objective.networks:
        if name not in pipeline.components:
            (folder / "training_networks").mkdir(exist_ok=True)
            (folder / name).rename(folder / "training_networks" / name)
    pipeline.save_pretrained(str(folder))
    return folder


def assert_same_networks(ours: Objective, theirs: Objective) -> None:
    """Names, configurations and weights of two objectives' networks."""
    assert ours.networks.keys() == theirs.networks.keys()
    for name, network in ours.networks.items():
        assert type(network) is type(theirs.networks[name])
        torch.testing.assert_close(network.state_dict(), theirs.networks[name].state_dict(), rtol=0, atol=0)
