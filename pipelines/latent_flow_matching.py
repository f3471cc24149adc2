"""Pipeline of a flow of a VAE's latents."""

from __future__ import annotations

from typing import Any

from diffusers import SchedulerMixin

from hf_genmodels.roles import Denoiser, VAENetwork

from .flow_matching import FlowMatchingPipeline
from .latent_sampling import LatentSampling


class LatentFlowMatchingPipeline(LatentSampling, FlowMatchingPipeline):
    """Samples of a VAE's decoder for latents that a flow makes; see `FlowMatchingPipeline`.

    Args:
        vae: Between images and latents.
        unet: Of latents of `in_channels` = latent_dim, `sample_size` 1. It may know classes.
        scheduler: As of `FlowMatchingPipeline`.
        scaling_factor: The network makes latents times this number, which makes their standard deviation 1.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: num_train_timesteps of the training; None for that of `scheduler`.
        id2label: Names of the classes by number, where it knows classes.

    Raises:
        UserError: The scheduler is of another training, or the network makes other latents.
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
        super(FlowMatchingPipeline, self).__init__()
        self.set_up(value_scale, trained_schedule, id2label, scaling_factor, vae=vae, unet=unet, scheduler=scheduler)
