"""EDM's objective: the preconditioned network denoises at every noise level (Karras et al. 2022)."""

from typing import Any

import torch
from diffusers import EDMEulerScheduler, ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.noise_levels import edm_target, log_normal_sigma, over, precondition
from ..pipelines.edm import EDMPipeline
from ..pipelines.latent_edm import LatentEDMPipeline
from .base import Batch, Gather, Noise
from .noise_levels import NoiseLevelObjective


class EDMObjective(NoiseLevelObjective):
    """lambda(sigma) ||D(x + sigma epsilon; sigma) - x||^2, ln sigma ~ N(P_mean, P_std^2) (arXiv 2206.00364, eq. 2, 8).

    D is the network with the preconditioning of table 1, and lambda = 1 / c_out^2: the loss is the plain squared error
    of the network against `edm_target`, in float32, and a mean over a sample's dimensions, not the sum.

    Classes and a VAE's latents are as in `objectives/denoising.py`.
    """

    plain_pipeline, latent_pipeline = EDMPipeline, LatentEDMPipeline
    figure = "weighted_mse"

    sigma_data: float

    def errors(self, unet: Any, sample: Tensor, places: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Lambda ||D - x||^2 of each sample, (batch,) float32; arguments as of `held_out`."""
        sigma = log_normal_sigma(places, self.p_mean, self.p_std)
        noisy = sample.float() + over(sigma, sample) * noise.float()
        scales = precondition(sigma, self.sigma_data)
        conditions = {} if labels is None else {"class_labels": labels}
        inputs = (over(scales.inner, noisy) * noisy).to(sample.dtype)
        prediction = unet(inputs, scales.noise, **conditions, return_dict=False)[0].float()
        target = edm_target(sample.float(), noisy, sigma, self.sigma_data)
        return (prediction - target).square().flatten(1).mean(1)

    def initialize(self, batch: Batch, noise: Noise, gather: Gather) -> None:
        """Besides latents' scale, the data's standard deviation where none was given: of the first batch."""
        super().initialize(batch, noise, gather)
        if not self.measures_data:
            return
        image = batch["image"].float()
        moments = gather(torch.stack([image.mean(), image.square().mean()])[None]).mean(0)
        is_latent = "vae" in self.networks
        self.set_sigma_data(1.0 if is_latent else float((moments[1] - moments[0].square()).sqrt()))

    def set_sigma_data(self, sigma_data: float) -> None:
        """Take a standard deviation of the data for the losses and the sampler."""
        self.sigma_data = sigma_data
        self.scheduler = type(self.scheduler).from_config(self.scheduler.config, sigma_data=sigma_data)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"sigma_data": self.sigma_data}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.set_sigma_data(state["sigma_data"])

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: EDMEulerScheduler,
        data: DataSpec,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        measures_data: bool = False,
        **options: Any,
    ) -> None:
        """Put the parts together.

        Args:
            unet: F; c_in x, c_noise -> what `edm_target` says.
            scheduler: Has `sigma_data`.
            data: What the training data look like.
            p_mean: Mean of ln sigma.
            p_std: Standard deviation of ln sigma.
            measures_data: Let `initialize` find `sigma_data`: 1 of latents, which are scaled to that.
            options: Classes, latents and pictures, see `DenoisingObjective`.
        """
        super().__init__(unet, scheduler, data, **options)
        self.p_mean, self.p_std, self.measures_data = p_mean, p_std, measures_data
        self.sigma_data = scheduler.config.sigma_data
