"""The score model's objective: denoising score matching at noise levels that explode."""

from typing import Any

import torch
from diffusers import ModelMixin, ScoreSdeVeScheduler
from torch import Tensor

from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.noise_levels import furthest, geometric_sigma, over, score_input, score_of
from ..pipelines.latent_score import LatentScorePipeline
from ..pipelines.score import ScorePipeline
from .base import Batch, Gather, Noise
from .noise_levels import NoiseLevelObjective


class ScoreObjective(NoiseLevelObjective):
    """sigma^2 ||s(x + sigma epsilon, sigma) + epsilon / sigma||^2, sigma geometric (Song & Ermon 2019, eq. 5 and 6).

    ln sigma is uniform between those of `sigma_min` and `sigma_max`, as of the continuous levels of Song et al. 2021
    (arXiv 2011.13456, eq. 7 and 30). A sample's loss is the mean over its dimensions.

    Classes and a VAE's latents are as in `objectives/denoising.py`.
    """

    plain_pipeline, latent_pipeline = ScorePipeline, LatentScorePipeline
    figure = "weighted_mse"

    def errors(self, unet: Any, sample: Tensor, places: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Weighted squared error of each sample's score, (batch,) float32; arguments as of `held_out`."""
        levels = self.scheduler.config
        sigma = geometric_sigma(places, levels.sigma_min, levels.sigma_max)
        noisy = sample.float() + over(sigma, sample) * noise.float()
        conditions = {} if labels is None else {"class_labels": labels}
        inputs = score_input(noisy, sigma).to(sample.dtype)
        prediction = unet(inputs, sigma.log() / 4, **conditions, return_dict=False)[0].float()
        difference = over(sigma, noisy) * score_of(prediction, sigma) + noise.float()
        return difference.square().flatten(1).mean(1)

    def initialize(self, batch: Batch, noise: Noise, gather: Gather) -> None:
        """Besides latents' scale, the greatest noise where none was given: the greatest distance in the first batch.

        Song & Ermon 2020 (arXiv 2006.09011, technique 1) take that in the whole data set.
        """
        super().initialize(batch, noise, gather)
        if self.measures_data:
            # latents at their means: what is drawn here would be the same for the rows of every process
            sample = self.clean(self.networks, batch["image"], lambda shape: torch.zeros(shape).to(batch["image"]))
            self.set_sigma_max(float(furthest(gather(sample.float()))))

    def set_sigma_max(self, sigma_max: float) -> None:
        """Take a greatest noise for the losses and the sampler.

        Raises:
            UserError: It is not above the least one.
        """
        sigma_min = self.scheduler.config.sigma_min
        if not sigma_max > sigma_min:
            raise UserError(
                f"--sigma_max, as measured in the first batch {sigma_max:.4g}, must be above --sigma_min "
                f"{sigma_min:g}: give both, or a larger batch"
            )
        self.scheduler = type(self.scheduler).from_config(self.scheduler.config, sigma_max=sigma_max)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"sigma_max": self.scheduler.config.sigma_max}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.set_sigma_max(state["sigma_max"])

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: ScoreSdeVeScheduler,
        data: DataSpec,
        measures_data: bool = False,
        **options: Any,
    ) -> None:
        """Put the parts together.

        Args:
            unet: F of `score_of`.
            scheduler: Has `sigma_min` and `sigma_max`.
            data: What the training data look like.
            measures_data: Let `initialize` find `sigma_max`.
            options: Classes, latents and pictures, see `DenoisingObjective`.
        """
        super().__init__(unet, scheduler, data, **options)
        self.measures_data = measures_data
