"""Pipeline of the variational autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.likelihood import (
    gaussian_nll,
    importance_weighted_log_likelihood,
    standard_normal_log_density,
)
from hf_genmodels.models.vae import VAE

from .base import GenerativePipeline, GenerativePipelineOutput, Generators
from .latents import gaussian_grid, interpolate_latents


class VAEPipeline(GenerativePipeline):
    """Samples, codes, reconstructions and likelihoods of a VAE.

    Args:
        vae: The network.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    model_cpu_offload_seq = "vae"
    vae: VAE

    def __init__(self, vae: VAE, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(vae=vae)
        self.register_to_config(value_scale=value_scale)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples: the mean of p(x|z) for z ~ N(0, I).

        Args:
            batch_size: How many.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone.
            latents: (batch, latent_dim) to decode instead of random ones.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.

        Raises:
            UserError: The arguments' shapes do not fit.
        """
        latents = self.random_latents(batch_size, (self.vae.config.latent_dim,), generator, latents, self.vae.dtype)
        return self.finish(self.vae.decode(latents), output_type, return_dict)

    @torch.no_grad()
    def encode(self, images: Any, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Posterior mean of each image, or a draw from the posterior.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            sample: Draw z ~ q(z|x) instead of returning its mean.
            generator: For the draw.

        Returns:
            (batch, latent_dim).
        """
        mean, log_std = self.vae.posterior_parameters(self.prepare_images(images, self.vae.dtype))
        if not sample:
            return mean
        noise = self.random_latents(len(mean), tuple(mean.shape[1:]), generator, None, mean.dtype)
        return mean + torch.exp(log_std) * noise

    @torch.no_grad()
    def decode(self, latents: Tensor, output_type: str | None = None) -> GenerativePipelineOutput:
        """Mean of p(x|z) for given (batch, latent_dim)."""
        latents = self.random_latents(len(latents), (self.vae.config.latent_dim,), None, latents, self.vae.dtype)
        return GenerativePipelineOutput(images=self.finish(self.vae.decode(latents), output_type, False)[0])

    @torch.no_grad()
    def reconstruct(self, images: Any, output_type: str | None = None) -> GenerativePipelineOutput:
        """Decoded posterior means."""
        return self.decode(self.encode(images), output_type)

    @torch.no_grad()
    def interpolate(
        self, a: Any, b: Any, num_steps: int = 8, mode: str = "spherical", output_type: str | None = None
    ) -> GenerativePipelineOutput:
        """Decode a path from the code of image `a` to that of `b`, both included; `mode` "linear" or "spherical".

        Raises:
            UserError: `a` or `b` is more than one image, or `mode` or `num_steps` is impossible.
        """
        start, end = self.encode(a), self.encode(b)
        if len(start) != 1 or len(end) != 1:
            raise UserError(f"interpolate goes from one image to one image, got {len(start)} and {len(end)}")
        path = interpolate_latents(start[0], end[0], num_steps, mode)
        return self.decode(path, output_type)

    @torch.no_grad()
    def log_likelihood(self, images: Any, num_samples: int = 100, generator: torch.Generator | None = None) -> Tensor:
        """Importance-weighted lower bound of log p(x) (Burda et al. 2015, eq. 8), tighter for more samples.

        Args:
            images: PIL images, arrays or tensors.
            num_samples: K, draws from q(z|x) for each image.
            generator: For the draws.

        Returns:
            (batch,) nats an image: of the [-1, 1]-scaled values for the Gaussian decoder, of the soft binary targets
            for the Bernoulli one, of the grey levels for the categorical one.
        """
        if num_samples < 1:
            raise UserError(f"num_samples must be at least 1, got {num_samples}")
        sample = self.prepare_images(images, self.vae.dtype)
        mean, log_std = self.vae.posterior_parameters(sample)
        log_weights = []
        for _ in self.progress_bar(range(num_samples)):
            noise = self.random_latents(len(mean), tuple(mean.shape[1:]), generator, None, mean.dtype)
            latents = mean + torch.exp(log_std) * noise
            decoded = self.vae.decoder_parameters(latents)
            log_likelihood = -self.vae.negative_log_likelihood(sample, decoded, self.vae.log_scale)
            log_posterior = -gaussian_nll(latents, mean, log_std)
            log_weights.append(log_likelihood + standard_normal_log_density(latents) - log_posterior)
        return importance_weighted_log_likelihood(torch.stack(log_weights))

    @torch.no_grad()
    def manifold(self, num_rows: int = 20, output_type: str | None = None) -> GenerativePipelineOutput:
        """Decode a grid of evenly spaced quantiles of the prior, for a 2-D latent (Kingma & Welling 2013, fig. 4).

        Returns:
            num_rows^2 images, row by row from the top left.

        Raises:
            UserError: The latent is not 2-D, or `num_rows` below 1.
        """
        if num_rows < 1:
            raise UserError(f"num_rows must be at least 1, got {num_rows}")
        if self.vae.config.latent_dim != 2:
            raise UserError(f"manifold needs a 2-D latent, this model's has {self.vae.config.latent_dim} dimensions")
        return self.decode(gaussian_grid(num_rows, self._execution_device, self.vae.dtype), output_type)
