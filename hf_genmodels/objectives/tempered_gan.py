"""The tempered adversarial network's objective: a GAN whose discriminator sees the data through a lens."""

import math
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.gan import GAN_LOSSES, accuracy, discriminator_loss, generator_loss, mean_of
from ..pipelines.gan import GANPipeline
from .base import Batch, Noise, Objective, Phase, latent_samples

LOSS = "non_saturating"


class TemperedGANObjective(Objective):
    """Tempered adversarial network (Sajjadi et al. 2018, arXiv 1802.04374).

    A lens L distorts the data until they are hard to tell from what the generator can make by now. With d the logit
    of "real" and t the step from 0:

    generator      -log sigmoid(d(G(z)))
    lens           lambda A + R with A = -log(1 - sigmoid(d(L(x)))) and R = ||L(x) - x||^2
    discriminator  -log sigmoid(d(L(x))) - log(1 - sigmoid(d(G(z))))
    lambda         1 - sin(pi t / (2 K)) for t <= K, then 0

    R is the mean over the entries of all samples: as a sum it would leave the lens of a large image next to no room.
    A is the non-saturating form of the paper's minus L_D, like the generator's loss. Once lambda is 0 the lens goes on
    learning by R alone, as the paper's formula has it, and becomes the identity. The default of K and the layers of
    the lens are ours, see `LensNetwork`.

    The discriminator goes first, then the generator, then the lens. Training further from a saved model begins at step
    0, with lambda at 1 again.
    """

    pipeline_class = GANPipeline
    ema = ("generator",)
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
        Phase("lens", trains=("lens",), reuse_batch=True),
    )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real, discriminator = batch["image"], networks["discriminator"]
        if phase.name == "generator":
            return {"loss": generator_loss(LOSS, discriminator(self.generate(networks, real, noise)).logits)}
        if phase.name == "lens":
            seen = networks["lens"](real).sample
            adversarial = mean_of(GAN_LOSSES[LOSS].fake, discriminator(seen).logits, "logits of the distorted data")
            distortion = (seen.float() - real.float()).square().mean()
            loss = self.adversarial_weight * adversarial + distortion
            return {"loss": loss, "adversarial": adversarial, "distortion": distortion}
        with torch.no_grad():
            seen, fake = networks["lens"](real).sample, self.generate(networks, real, noise)
        on_seen, on_fake = discriminator(seen.to(real.dtype)).logits, discriminator(fake.to(real.dtype)).logits
        return {
            "loss": discriminator_loss(LOSS, on_seen, on_fake),
            "accuracy": accuracy(LOSS, on_seen.detach(), on_fake.detach()),
        }

    def generate(self, networks: dict[str, Any], real: Tensor, noise: Noise) -> Tensor:
        """As many fakes as there are data."""
        fake: Tensor = networks["generator"](noise.normal((len(real), self.latent_dim), like=real)).sample
        return fake

    def before_step(self, step: int) -> None:
        self.adversarial_weight = adversarial_weight(step, self.lens_steps)

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
        lens: ModelMixin,
        data: DataSpec,
        lens_steps: int = 5000,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: z -> x.
            discriminator: x -> logit of "real".
            lens: x -> L(x) of the same shape.
            data: What the training data look like.
            lens_steps: K: steps over which the lens's adversarial weight falls from 1 to 0. Train for more.
            discriminator_learning_rate: Of the discriminator; the loop's by default.
        """
        super().__init__({"generator": generator, "discriminator": discriminator, "lens": lens}, data)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.lens_steps, self.adversarial_weight = lens_steps, 1.0
        self.schedule = (("lens_steps", lens_steps),)
        config: Any = generator.config
        self.latent_dim: int = config.latent_dim

    # pictures --------------------------------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = super().sample_grid(pipeline, batch, generator)
        lens: Any = self.networks["lens"]
        seen = lens(batch["image"]).sample
        return {**pictures, "data through the lens": (seen.clamp(-1, 1) + 1) / 2 if self.data.is_image else seen}

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)


def adversarial_weight(step: int, lens_steps: int) -> float:
    """lambda: 1 at step 0, falling along a sine to 0 at step `lens_steps`, and 0 from then on."""
    return 1.0 - math.sin(0.5 * math.pi * step / lens_steps) if step <= lens_steps else 0.0
