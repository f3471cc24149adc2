"""The network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from hf_genmodels import register
from hf_genmodels.sizes import SampleSize, sample_shape


@dataclass
class EnergyOutput(BaseOutput):
    """What a pass gives: `sample`, (batch, channels, height, width) in [-1, 1], or (batch, dim)."""

    sample: Tensor


@register
class EnergyGenerator(ModelMixin, ConfigMixin):
    """x = G(z) through dense layers.

    Args:
        latent_dim: Dimension of z.
        in_channels: Channels of a sample, or its dimension.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        width: Units of the two hidden layers.
    """

    @register_to_config
    def __init__(
        self, latent_dim: int = 16, in_channels: int = 1, sample_size: SampleSize | None = 8, width: int = 128
    ) -> None:
        super().__init__()
        self.shape = sample_shape(in_channels, sample_size)
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()),
            nn.Linear(width, math.prod(self.shape)),
        )

    def forward(self, latents: Tensor) -> EnergyOutput:
        """(batch, latent_dim) -> samples; images go through tanh."""
        sample = self.layers(latents).unflatten(1, self.shape)
        return EnergyOutput(sample=sample if len(self.shape) == 1 else torch.tanh(sample))
