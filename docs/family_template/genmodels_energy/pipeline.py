"""What people load and call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels import GenerativePipeline

from .network import EnergyGenerator


class EnergyPipeline(GenerativePipeline):
    """Samples of a generator trained by the energy distance.

    Args:
        generator: G, z -> x.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    model_cpu_offload_seq = "generator"
    generator: Any

    def __init__(self, generator: EnergyGenerator, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(generator=generator)
        self.register_to_config(value_scale=value_scale)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Any = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Samples G(z); see `hf_genmodels.GANPipeline` for the arguments."""
        shape = (self.generator.config.latent_dim,)
        latents = self.random_latents(batch_size, shape, generator, latents, self.dtype)
        return self.finish(self.generator(latents).sample, output_type, return_dict)
