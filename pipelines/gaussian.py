"""Pipeline of the Gaussian (PCA) model, and what it shares with that of the mixture."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_genmodels.losses.dequantization import bits_per_dim
from hf_genmodels.models.gaussian import DensityModel, GaussianModel

from .anomaly import AnomalyPipeline
from .base import Task
from .encoding import EncodingPipeline


class DensityPipeline(AnomalyPipeline):
    """Likelihoods under a pipeline's only component, a `DensityModel`."""

    measures = frozenset({"samples", "likelihood", "anomalies"})
    random_anomaly_scores = True
    tasks: ClassVar[tuple[Task, ...]] = ("score",)
    scores: ClassVar[tuple[str, ...]] = ("log_likelihood", "anomaly_score")

    @property
    def density(self) -> DensityModel:
        """The component."""
        (network,) = self.components.values()
        return network

    @torch.no_grad()
    def log_likelihood(self, images: Any, generator: torch.Generator | None = None) -> Tensor:
        """Log-likelihood: of vectors the exact log-density, of images a lower bound of the log-probability.

        An image's grey levels become continuous by uniform noise, whose density bounds their probability (Theis et al.
        2016, arXiv 1511.01844, section 3.1): the figure is comparable with a flow's.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            generator: For the noise, one draw for each image; vectors need none.

        Returns:
            (batch,) nats an image, float32.
        """
        sample = self.prepare_images(images, torch.float32)
        device = self._execution_device if generator is None else generator.device
        noise = torch.rand(sample.shape, generator=generator, device=device).to(sample)
        return self.density.log_probability(sample, noise)

    @torch.no_grad()
    def bits_per_dim(self, images: Any, generator: torch.Generator | None = None) -> Tensor:
        """`log_likelihood` as code length: (batch,) bits for each of an image's numbers; of vectors, of a density."""
        return bits_per_dim(self.log_likelihood(images, generator), self.density.dim)

    @torch.no_grad()
    def anomaly_score(self, images: Any, generator: torch.Generator | None = None) -> Tensor:
        """Negative log-likelihood of each image, (batch,) nats: higher is stranger."""
        return -self.log_likelihood(images, generator)

    @torch.no_grad()
    def anomaly_threshold(
        self, images: Any, quantile: float = 0.95, generator: torch.Generator | None = None
    ) -> float:
        """The score that a share `quantile` of normal images does not exceed; `generator` as for `log_likelihood`."""
        return self.anomaly_score(images, generator).quantile(quantile).item()


class GaussianPipeline(DensityPipeline, EncodingPipeline):
    """Samples, principal components, reconstructions and likelihoods of a Gaussian.

    Latents are coordinates along the principal directions, in units of their standard deviations. `encode` is exact,
    so there is no draw from a posterior, and `reconstruct` gives PCA's reconstruction. With fewer components than
    dimensions a sample leaves out the noise in the discarded directions. Grey values are not rounded to levels.

    Args:
        gaussian: The model.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    measures = EncodingPipeline.measures | {"likelihood"}
    tasks = ("reconstruct", "encode", "score")
    model_cpu_offload_seq = "gaussian"
    gaussian: GaussianModel

    def __init__(self, gaussian: GaussianModel, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(gaussian=gaussian)
        self.register_to_config(value_scale=value_scale)

    @property
    def latent_dim(self) -> int:
        return len(self.gaussian.variances)

    def network_posterior(self, sample: Tensor) -> tuple[Tensor, None]:
        """The latent of each image, of the middles of its grey levels."""
        middles = torch.full_like(sample, 0.5)
        return self.gaussian(self.gaussian.continuous(sample, middles)).latents, None

    def network_decode(self, latents: Tensor) -> Tensor:
        return self.gaussian.shown(self.gaussian.decode(latents))
