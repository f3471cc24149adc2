"""What pipelines share that make a VAE's latents."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.sizes import sample_shape

from .guided import GuidedPipeline
from .images import SampleShape


class LatentSampling(GuidedPipeline):
    """Base of the pipelines whose network makes latents, times the configuration's `scaling_factor`, for a VAE."""

    model_cpu_offload_seq = "unet->vae"
    vae: Any

    def check_latents(self) -> None:
        """Refuse a VAE of other latents than the network's.

        Raises:
            UserError: It has such.
        """
        if self.latent_shape != (self.vae.config.latent_dim,):
            raise UserError(
                f"{type(self).__name__}: the network denoises {self.latent_shape}, "
                f"the VAE's latents are ({self.vae.config.latent_dim},)"
            )

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one sample, (channels, height, width) or (dim,)."""
        return sample_shape(self.vae.config.in_channels, self.vae.config.sample_size)

    def to_diffused(self, images: Any) -> Tensor:
        """The VAE's posterior means times `scaling_factor`, float32 (batch, latent_dim)."""
        mean, _ = self.vae.posterior_parameters(self.prepare_images(images, self.vae.dtype))
        return mean.float() * self.config.scaling_factor

    def from_diffused(self, diffused: Tensor) -> Tensor:
        """(batch, latent_dim) -> means of p(x|z), images in [-1, 1]."""
        return self.vae.decode((diffused / self.config.scaling_factor).to(self.vae.dtype))
