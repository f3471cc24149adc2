"""What objectives share whose network is told the noise that was added to the data: classes, latents, pictures."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import ModelMixin, SchedulerMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..pipelines.guided import GuidedPipeline
from .base import Batch, Gather, Noise, Objective, Phase, with_class_names


class DenoisingObjective(Objective):
    """Base of the families that train one `UNet2DModel` on noisy samples, or on a VAE's noisy latents.

    With classes, the network is told "any class" in place of an example's own with probability `label_dropout`, which
    classifier-free guidance needs (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).

    With a VAE, which stays as it is, the samples are draws from q(z|x) times `scaling_factor`: one over their standard
    deviation in the first batch (Rombach et al. 2022, arXiv 2112.10752, appendix G).

    A family gives `losses`, `held_out` and `pipeline_with`.

    Args:
        unet: Takes noisy samples and says what its family's losses ask. Vectors and latents are images of one pixel.
        scheduler: The sampler that is saved with the network.
        data: What the training data look like.
        class_conditional: Tell the network the class; it knows one more than the data have, the last, for "any".
        label_dropout: How often it is told "any".
        num_inference_steps: Of the pictures made during training.
        vae: In whose latents to diffuse; None to diffuse the data themselves.
        scaling_factor: What latents are multiplied by; `initialize` finds it for a new network.
    """

    ema = ("unet",)
    phases = (Phase("denoising", trains=("unet",)),)

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        data: DataSpec,
        class_conditional: bool = False,
        label_dropout: float = 0.1,
        num_inference_steps: int = 50,
        vae: ModelMixin | None = None,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__({"unet": unet} if vae is None else {"vae": vae, "unet": unet}, data)
        self.frozen = () if vae is None else ("vae",)
        self.scheduler: Any = scheduler
        self.class_conditional, self.label_dropout = class_conditional, label_dropout
        self.num_inference_steps, self.scaling_factor = num_inference_steps, scaling_factor

    # what the network sees -------------------------------------------------------------------------------------------

    def told(self, batch: Batch, noise: Noise) -> Tensor | None:
        """The classes that the network is told, (batch,); None where it knows none."""
        if not self.class_conditional:
            return None
        is_dropped = noise.uniform((len(batch["image"]),), like=batch["image"]) < self.label_dropout
        return torch.where(is_dropped, self.any_class, batch["label"])

    def clean(self, networks: dict[str, Any], image: Tensor, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """What is diffused, (batch, channels, height, width): images, vectors as one pixel, or draws from q(z|x).

        Args:
            networks: Of the loop.
            image: The data.
            draw: Standard normal numbers of a shape.
        """
        if "vae" in networks:
            mean, log_std = self.posterior(networks["vae"], image)
            image = (mean + torch.exp(log_std) * draw(tuple(mean.shape))) * self.scaling_factor
        return image if image.ndim == 4 else image[:, :, None, None]

    def posterior(self, vae: Any, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z|x) by the frozen VAE, each (batch, latent_dim) float32."""
        with torch.no_grad():
            mean, log_std = vae.posterior_parameters(image)
        return mean.float(), log_std.float()

    @property
    def any_class(self) -> int:
        """The label of a conditional network that stands for no particular class."""
        config: Any = self.networks["unet"].config
        number: int = config.num_class_embeds - 1
        return number

    def initialize(self, batch: Batch, noise: Noise, gather: Gather) -> None:
        """Scale latents by the standard deviation of q(z|x) over the first batch of all processes."""
        if "vae" not in self.networks:
            return
        mean, log_std = self.posterior(self.networks["vae"], batch["image"])
        second = mean.square() + torch.exp(2 * log_std)
        moments = gather(torch.stack([mean.mean(), second.mean()])[None]).mean(0)
        self.scaling_factor = float((moments[1] - moments[0].square()).rsqrt())

    def state_dict(self) -> dict[str, Any]:
        return {"scaling_factor": self.scaling_factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaling_factor = state["scaling_factor"]

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline_with(self, scheduler: SchedulerMixin, networks: dict[str, Any]) -> GuidedPipeline:
        """The family's pipeline around `networks`, with any sampler."""
        raise NotImplementedError

    def held_out(
        self, unet: Any, sample: Tensor, places: Tensor, noise: Tensor, labels: Tensor | None
    ) -> dict[str, Tensor]:
        """Figures of each sample, (batch,), at given noise.

        Args:
            unet: The network.
            sample: Clean, (batch, channels, height, width).
            places: Of the noise levels among those of the training, (batch,) in [0, 1), spread evenly.
            noise: Standard normal, same shape as `sample`.
            labels: (batch,), None where the network knows none.
        """
        raise NotImplementedError

    def picture_scheduler(self, pipeline: Any) -> SchedulerMixin:
        """The sampler of the pictures: the pipeline's own, anew, so that its is left alone."""
        scheduler: SchedulerMixin = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        return scheduler

    def pipeline(self, networks: dict[str, ModelMixin]) -> GuidedPipeline:
        return with_class_names(self.pipeline_with(self.scheduler, networks), self.data)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples in few steps; the classes one after the other."""
        sampler: Any = self.pipeline_with(self.picture_scheduler(pipeline), pipeline.components)
        sampler.set_progress_bar_config(disable=True)
        count, steps = len(batch["image"]), self.num_inference_steps
        labels = torch.arange(count) % self.any_class if self.class_conditional else None
        samples = sampler(count, generator, num_inference_steps=steps, class_labels=labels, output_type="pt").images
        return {"samples": samples} if self.data.is_image else {"data": batch["image"], "samples": samples}

    @property
    def sampling(self) -> dict[str, Any]:
        return {"num_inference_steps": self.num_inference_steps}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`held_out`, with noise of levels that are spread evenly over the batch from a random first one."""
        image = batch["image"]
        places = (torch.arange(len(image)) / len(image) + torch.rand((), generator=generator)) % 1

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator).to(image)

        sample = self.clean(networks, image, draw)
        labels = batch["label"] if self.class_conditional else None
        noise = draw(tuple(sample.shape))
        return self.held_out(networks["unet"], sample, places.to(image.device), noise, labels)
