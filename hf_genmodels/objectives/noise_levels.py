"""What the objectives of EDM, flow matching and score models share: a loss at random noise levels, and pipelines."""

from typing import Any, ClassVar

from torch import Tensor

from ..pipelines.noise_levels import NoiseLevelPipeline
from .base import Batch, Noise, Phase
from .denoising import DenoisingObjective


class NoiseLevelObjective(DenoisingObjective):
    """Mean over the batch of `errors`, which a family gives, at noise levels drawn for each sample.

    Attributes:
        plain_pipeline: Of models of the data themselves.
        latent_pipeline: Of models of a VAE's latents.
        figure: Name of the loss among the held-out figures.
    """

    plain_pipeline: ClassVar[type[NoiseLevelPipeline]]
    latent_pipeline: ClassVar[type[NoiseLevelPipeline]]
    figure: ClassVar[str]

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image = batch["image"]
        places, labels = noise.uniform((len(image),), like=image), self.told(batch, noise)
        sample = self.clean(networks, image, lambda shape: noise.normal(shape, like=image))
        epsilon = noise.normal(tuple(sample.shape), like=sample)
        return {"loss": self.errors(networks["unet"], sample, places, epsilon, labels).mean()}

    def errors(self, unet: Any, sample: Tensor, places: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """The family's loss of each sample, (batch,) float32; arguments as of `held_out`."""
        raise NotImplementedError

    def held_out(
        self, unet: Any, sample: Tensor, places: Tensor, noise: Tensor, labels: Tensor | None
    ) -> dict[str, Tensor]:
        """The loss; see `DenoisingObjective`."""
        return {self.figure: self.errors(unet, sample, places, noise, labels)}

    def pipeline_with(self, scheduler: Any, networks: dict[str, Any]) -> NoiseLevelPipeline:
        """The pipeline around `networks`, with any sampler."""
        parts: dict[str, Any] = {
            "unet": networks["unet"],
            "scheduler": scheduler,
            "value_scale": self.data.value_scale,
        }
        if "vae" in networks:
            return self.latent_pipeline(vae=networks["vae"], scaling_factor=self.scaling_factor, **parts)
        return self.plain_pipeline(**parts)
