"""The loss, and what the loop wants to know besides."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from hf_genmodels import DataSpec, Noise, Objective, Phase

from .pipeline import EnergyPipeline


def energy_distance(fake: Tensor, real: Tensor, exponent: float) -> Tensor:
    """2 E |x - y|^a - E |x - x'|^a - E |y - y'|^a over a batch of fakes x and data y, each (batch, ...); a scalar."""
    fake, real = fake.float().flatten(1), real.float().flatten(1)
    between = torch.cdist(fake, real).pow(exponent).mean()
    within = sum(torch.pdist(each).pow(exponent).mean() for each in (fake, real))
    return 2 * between - within


class EnergyObjective(Objective):
    """The energy distance (Szekely & Rizzo 2013) between a generator's samples and the data; 0 where they agree."""

    pipeline_class = EnergyPipeline
    ema = ("generator",)
    phases = (Phase("distance", trains=("generator",)),)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: dict[str, Tensor], noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real = batch["image"]
        latents = noise.normal((len(real), self.latent_dim), like=real)
        return {"loss": energy_distance(networks["generator"](latents).sample, real, self.exponent)}

    def __init__(self, generator: ModelMixin, data: DataSpec, exponent: float = 1.0) -> None:
        super().__init__({"generator": generator}, data)
        self.exponent = exponent
        self.latent_dim: int = generator.config.latent_dim
