"""Pipeline of the variational autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels.losses.likelihood import (
    gaussian_nll,
    importance_weighted_log_likelihood,
    standard_normal_log_density,
)
from hf_genmodels.roles import VAENetwork

from .encoding import PosteriorPipeline
from .offloading import weights_of


class VAEPipeline(PosteriorPipeline):
    """Samples, codes, reconstructions, likelihoods and anomaly scores of a VAE.

    Args:
        vae: The network.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    measures = PosteriorPipeline.measures | {"likelihood"}
    scores = ("log_likelihood", "anomaly_score")
    likelihood_draws = 100
    model_cpu_offload_seq = "vae"
    vae: Any

    def __init__(self, vae: VAENetwork, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(vae=vae)
        self.register_to_config(value_scale=value_scale)

    @property
    def latent_dim(self) -> int:
        dim: int = self.vae.config.latent_dim
        return dim

    def network_posterior(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        return self.vae.posterior_parameters(sample)

    def network_decode(self, latents: Tensor) -> Tensor:
        """The mean of p(x|z)."""
        return self.vae.decode(latents)

    @torch.no_grad()
    def log_likelihood(
        self, images: Any, num_samples: int = likelihood_draws, generator: torch.Generator | None = None
    ) -> Tensor:
        """Importance-weighted lower bound of log p(x) (Burda et al. 2015, eq. 8), tighter for more samples.

        Args:
            images: PIL images, arrays or tensors.
            num_samples: K, draws from q(z|x) for each image.
            generator: For the draws.

        Returns:
            (batch,) nats an image: of the [-1, 1]-scaled values for the Gaussian decoder, of the soft binary targets
            for the Bernoulli one, of the grey levels for the categorical one.
        """
        sample = self.prepare_images(images, self.vae.dtype)
        with weights_of(self.vae):
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
