"""Pipeline of the class-conditional DDPM."""

from __future__ import annotations

from typing import Any

from diffusers import SchedulerMixin

from hf_genmodels.errors import UserError
from hf_genmodels.roles import Denoiser

from .ddpm import LikelihoodPipeline


class ConditionalDDPMPipeline(LikelihoodPipeline):
    """Samples of given classes with classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598).

    Where a method takes `class_labels`, they are one number or name (`id2label`) for all images, or a sequence with
    one for each; numbers go from 0 to num_classes - 1.

    Args:
        unet: The denoising network, with `num_class_embeds` = number of classes + 1: the last one means "any class".
        scheduler: Of the training (a DDPMScheduler), or another sampler made from its configuration.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: Noise of the training, as a DDPMScheduler's arguments; None for that of `scheduler`.
        id2label: Names of the classes by number, where it knows classes.

    Raises:
        UserError: The network knows no classes.
    """

    def __init__(
        self,
        unet: Denoiser,
        scheduler: SchedulerMixin,
        value_scale: float = 255.0,
        trained_schedule: dict[str, Any] | None = None,
        id2label: dict[int, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(value_scale=value_scale)
        self.register_schedule(trained_schedule)
        if self.num_classes is None:
            raise UserError(
                "ConditionalDDPMPipeline needs a network that knows classes (num_class_embeds); use DDPMPipeline"
            )
        self.register_classes(id2label)
