"""Pipeline of a diffusion model of a VAE's latents."""

from __future__ import annotations

from typing import Any

from diffusers import SchedulerMixin

from hf_genmodels.roles import Denoiser, VAENetwork

from .denoising import DenoisingPipeline
from .latent_sampling import LatentSampling


class LatentDDPMPipeline(LatentSampling, DenoisingPipeline):
    """Samples of a VAE's decoder for latents that a DDPM makes (after Rombach et al. 2022, arXiv 2112.10752).

    Different from the paper: our VAE has one latent vector for an image, no map of them. `encode` goes on from the
    VAE's posterior mean to x_T, and `latents` are x_T, (batch, latent_dim).

    Args:
        vae: Between images and latents.
        unet: Denoises latents of `in_channels` = latent_dim, `sample_size` 1. It may know classes.
        scheduler: Of the training (a DDPMScheduler), or another sampler made from its configuration.
        scaling_factor: The network denoises latents times this number, which makes their standard deviation 1.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: Noise of the training, as a DDPMScheduler's arguments; None for that of `scheduler`.
        id2label: Names of the classes by number, where it knows classes.

    Raises:
        UserError: The network takes other latents.
    """

    def __init__(
        self,
        vae: VAENetwork,
        unet: Denoiser,
        scheduler: SchedulerMixin,
        scaling_factor: float = 1.0,
        value_scale: float = 255.0,
        trained_schedule: dict[str, Any] | None = None,
        id2label: dict[int, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)
        self.register_to_config(scaling_factor=scaling_factor, value_scale=value_scale)
        self.register_schedule(trained_schedule)
        self.register_classes(id2label)
        self.check_latents()
