"""Pipeline of the stationary Gaussian texture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels.models.texture import Method, StationaryTexture

from .base import GenerativePipeline, GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .offloading import weights_of


class TexturePipeline(GenerativePipeline):
    """Textures with the mean and the autocorrelation of one exemplar, of its size and periodic.

    Args:
        texture: The model.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    sampling_options = frozenset({"method"})
    model_cpu_offload_seq = "texture"
    texture: StationaryTexture

    def __init__(self, texture: StationaryTexture, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(texture=texture)
        self.register_to_config(value_scale=value_scale)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        method: Method = "adsn",
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Textures; values outside [0, 1], which a Gaussian has, are clipped.

        Args:
            batch_size: How many.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone.
            latents: White noise (batch, height, width) instead of a random one, the same for all channels.
            method: "adsn" (a Gaussian field) or "random_phase" (the exemplar with random phases), see
                `StationaryTexture`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Raises:
            UserError: The arguments' shapes do not fit, or an unknown method.
        """
        latents = self.random_latents(batch_size, self.sample_shape[1:], generator, latents, torch.float32)

        def make(latents: Tensor) -> Any:
            return self.finish(self.texture(latents, method).sample, output_type, return_dict)

        return in_chunks(make, max_batch_size, latents)

    @property
    def exemplar(self) -> Tensor:
        """The periodic component of the exemplar, (channels, height, width) in [0, 1], clipped as samples are."""
        with weights_of(self.texture):
            return ((self.texture.exemplar.detach().float() + 1) / 2).clamp(0, 1)
