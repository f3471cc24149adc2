"""Pipeline of the autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels.roles import AutoencoderNetwork

from .anomaly import ReconstructingPipeline
from .base import GenerativePipelineOutput
from .chunks import in_chunks
from .images import to_network
from .manifold import ManifoldPipeline


class AutoencoderPipeline(ManifoldPipeline, ReconstructingPipeline):
    """Codes, reconstructions and anomaly scores of an autoencoder. It has no prior, hence no sampling.

    Args:
        autoencoder: The network.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    measures = frozenset({"reconstructions", "anomalies", "codes"})
    tasks = ("reconstruct", "denoise", "encode", "score")
    scores = ("anomaly_score",)
    model_cpu_offload_seq = "autoencoder"
    autoencoder: AutoencoderNetwork

    def __init__(self, autoencoder: AutoencoderNetwork, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(autoencoder=autoencoder)
        self.register_to_config(value_scale=value_scale)

    @property
    def has_normal_prior(self) -> bool:
        return False

    @property
    def latent_dim(self) -> int:
        dim: int = self.autoencoder.config.latent_dim
        return dim

    def network_decode(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents)

    def network_reconstruct(self, sample: Tensor) -> Tensor:
        return self.autoencoder.decode(self.autoencoder.encode(sample))

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Reconstruct images.

        Args:
            image: PIL images, arrays or tensors, see `images.to_network`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.
        """

        def make(sample: Tensor) -> Any:
            sample = sample.to(self._execution_device, self.autoencoder.dtype)
            return self.finish(self.network_reconstruct(sample), output_type, return_dict)

        return in_chunks(make, max_batch_size, to_network(image, self.sample_shape, self.config.value_scale))

    @torch.no_grad()
    def encode(self, images: Any) -> Tensor:
        """Code of each image, (batch, latent_dim)."""
        return self.autoencoder.encode(self.prepare_images(images, self.autoencoder.dtype))

    @torch.no_grad()
    def decode(self, latents: Tensor, output_type: str | None = None) -> GenerativePipelineOutput:
        """Image of each code (batch, latent_dim)."""
        shape = (self.autoencoder.config.latent_dim,)
        latents = self.random_latents(len(latents), shape, None, latents, self.autoencoder.dtype)
        return GenerativePipelineOutput(images=self.finish(self.autoencoder.decode(latents), output_type, False)[0])

    @torch.no_grad()
    def reconstruct(self, images: Any, output_type: str | None = None) -> GenerativePipelineOutput:
        """Decoded codes."""
        return self.decode(self.encode(images), output_type)

    @torch.no_grad()
    def denoise(self, images: Any, output_type: str | None = None) -> GenerativePipelineOutput:
        """The clean image that a denoising autoencoder sees behind a corrupted one: its reconstruction."""
        return self.reconstruct(images, output_type)
