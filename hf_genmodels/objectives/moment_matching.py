"""The objective of generators without a discriminator: samples and data with the same moments."""

import math
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.mmd import mmd_loss
from ..pipelines.gan import GANPipeline
from .base import Batch, Noise, Objective, Phase, latent_samples
from .global_batch import rows_of_all

BANDWIDTHS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class MomentMatchingObjective(Objective):
    """A generative moment matching network (Li, Swersky & Zemel 2015, arXiv 1502.02761).

    loss = squared maximum mean discrepancy of a batch of data and as many samples, see `losses.mmd`

    The kernel is a mixture of Gaussians on the samples themselves, as in sections 4.1 and 4.3 of the paper; its
    autoencoder (section 4.2) is left out. Large batches are what it needs: it sees no more of the data at a time than
    the micro-batches of all processes.
    """

    pipeline_class = GANPipeline
    ema = ("generator",)
    phases = (Phase("generator", trains=("generator",)),)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real = batch["image"]
        fake = networks["generator"](noise.normal((len(real), self.latent_dim), like=real)).sample
        real, fake = (rows_of_all(sample.flatten(1), noise) for sample in (real, fake))
        return {"loss": mmd_loss(real, fake, self.bandwidths)}

    def __init__(self, generator: ModelMixin, data: DataSpec, bandwidths: tuple[float, ...] = BANDWIDTHS) -> None:
        """Put the parts together.

        Args:
            generator: z -> x, without classes.
            data: What the training data look like.
            bandwidths: Standard deviations of the kernels, as root mean square differences of samples' entries on the
                scale of the training data ([-1, 1] for images).

        Raises:
            UserError: A bandwidth is not positive, there is none, or the generator is told classes.
        """
        super().__init__({"generator": generator}, data)
        if not bandwidths or not all(0 < width < math.inf for width in bandwidths):
            raise UserError(f"mmd_bandwidths must be positive numbers, got {' '.join(map(str, bandwidths)) or 'none'}")
        config: Any = generator.config
        if config.get("num_classes"):
            raise UserError("generator_loss mmd takes no notice of classes: give it a generator without them")
        self.bandwidths = tuple(bandwidths)
        self.latent_dim: int = config.latent_dim

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)
