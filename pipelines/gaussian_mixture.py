"""Pipeline of the Gaussian mixture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels.models.gaussian_mixture import GaussianMixtureModel

from .base import GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .gaussian import DensityPipeline


class GaussianMixturePipeline(DensityPipeline):
    """Samples, likelihoods and clusters of a mixture of Gaussians. Grey values are not rounded to levels.

    Args:
        mixture: The model.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    model_cpu_offload_seq = "mixture"
    mixture: GaussianMixtureModel

    def __init__(self, mixture: GaussianMixtureModel, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(mixture=mixture)
        self.register_to_config(value_scale=value_scale)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Draws from the mixture.

        Args:
            batch_size: How many.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone.
            latents: (batch, 1 + numbers in a sample), standard normal, instead of random ones: the first number of
                each chooses the component, see `GaussianMixtureModel.decode`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Raises:
            UserError: The arguments' shapes do not fit.
        """
        latents = self.random_latents(batch_size, (1 + self.mixture.dim,), generator, latents, self.dtype)

        def make(latents: Tensor) -> Any:
            return self.finish(self.mixture.shown(self.mixture.decode(latents)), output_type, return_dict)

        return in_chunks(make, max_batch_size, latents)

    @torch.no_grad()
    def responsibilities(self, images: Any) -> Tensor:
        """p(component | image), (batch, num_components), of the middles of the grey levels.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
        """
        sample = self.prepare_images(images, torch.float32)
        return self.mixture(self.mixture.continuous(sample, torch.full_like(sample, 0.5))).responsibilities

    @torch.no_grad()
    def cluster(self, images: Any) -> Tensor:
        """The component that each image most probably came from, (batch,) int64."""
        return self.responsibilities(images).argmax(1)
