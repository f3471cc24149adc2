"""Flow matching's objective: the velocity of straight paths between noise and data."""

from typing import Any, get_args

from diffusers import FlowMatchEulerDiscreteScheduler, ModelMixin
from torch import Tensor

from ..checks import check_choice
from ..choices import TimeDistribution
from ..data.spec import DataSpec
from ..losses.noise_levels import logit_normal_time, path_velocity, shifted_time, straight_path
from ..pipelines.flow_matching import FlowMatchingPipeline
from ..pipelines.latent_flow_matching import LatentFlowMatchingPipeline
from .noise_levels import NoiseLevelObjective


class FlowMatchingObjective(NoiseLevelObjective):
    """||v(x_t, t) - (epsilon - x_0)||^2 for x_t = (1 - t) x_0 + t epsilon: conditional flow matching, rectified flow.

    Lipman et al. 2023 (arXiv 2210.02747, eq. 9 with the optimal-transport path and its smallest sigma 0), Liu et al.
    2023 (arXiv 2209.03003, eq. 1); in both, time goes the other way. A sample's loss is the mean over its dimensions.

    t is uniform, as in both, or logit-normal (Esser et al. 2024, arXiv 2403.03206, section 3.1), and then shifted
    towards noise like the sampler's times (section 5.3.2 there). The network is told 1000 t.

    Classes and a VAE's latents are as in `objectives/denoising.py`.
    """

    plain_pipeline, latent_pipeline = FlowMatchingPipeline, LatentFlowMatchingPipeline
    figure = "velocity_mse"

    def errors(self, unet: Any, sample: Tensor, places: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Mean squared error of each sample's velocity, (batch,) float32; arguments as of `held_out`."""
        time = self.times(places)
        noisy = straight_path(sample.float(), noise.float(), time).to(sample.dtype)
        conditions = {} if labels is None else {"class_labels": labels}
        scale = self.scheduler.config.num_train_timesteps
        velocity = unet(noisy, time * scale, **conditions, return_dict=False)[0].float()
        return (velocity - path_velocity(sample.float(), noise.float())).square().flatten(1).mean(1)

    def times(self, places: Tensor) -> Tensor:
        """Times at places in [0, 1) of their distribution, (batch,)."""
        if self.time_distribution == "uniform":
            time = places.float()
        else:
            time = logit_normal_time(places, self.logit_mean, self.logit_std)
        return shifted_time(time, self.scheduler.config.shift)

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: FlowMatchEulerDiscreteScheduler,
        data: DataSpec,
        time_distribution: TimeDistribution = "uniform",
        logit_mean: float = 0.0,
        logit_std: float = 1.0,
        **options: Any,
    ) -> None:
        """Put the parts together.

        Args:
            unet: x_t, 1000 t -> velocity.
            scheduler: Has `shift`.
            data: What the training data look like.
            time_distribution: "uniform" or "logit_normal".
            logit_mean: Mean of the normal number whose logistic function t is.
            logit_std: Its standard deviation.
            options: Classes, latents and pictures, see `DenoisingObjective`.

        Raises:
            UserError: There is no such distribution.
        """
        check_choice("time_distribution", time_distribution, get_args(TimeDistribution))
        super().__init__(unet, scheduler, data, **options)
        self.time_distribution = time_distribution
        self.logit_mean, self.logit_std = logit_mean, logit_std
