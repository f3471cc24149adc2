"""BiGAN's objective: an encoder and a generator against a discriminator of pairs."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.gan import accuracy, discriminator_loss
from ..losses.reconstruction import clamped_squared_error
from ..pipelines.bigan import BiGANPipeline
from .base import Batch, Noise, Objective, Phase, latent_samples

LOSS = "non_saturating"


class BiGANObjective(Objective):
    """Bidirectional GAN (Donahue et al. 2017, arXiv 1605.09782; Dumoulin et al. 2017, arXiv 1606.00704).

    The discriminator's logit d(x, z) says that a pair is (x, E(x)) rather than (G(z), z). It minimises the
    cross-entropy of that; generator and encoder minimise the cross-entropy with the answers swapped, as the AVAE
    authors' baseline does. That code labels the pairs the other way round, which changes nothing, and multiplies the
    encoder's loss by ten, which Adam undoes.

    The discriminator goes first, then generator and encoder together.
    """

    pipeline_class = BiGANPipeline
    ema = ("encoder", "generator")
    shows_reconstructions = True
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator", "encoder"), reuse_batch=True),
    )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image, discriminator = batch["image"], networks["discriminator"]
        latents = noise.normal((len(image), self.latent_dim), like=image)
        with torch.set_grad_enabled(phase.name == "generator"):
            fake, code = networks["generator"](latents).sample, networks["encoder"](image).mean
        if phase.name == "generator":
            # the cross-entropy with the answers swapped: data pairs in the place of fakes
            swapped = discriminator_loss(LOSS, discriminator(fake, latents).logits, discriminator(image, code).logits)
            return {"loss": swapped}
        real_logits = discriminator(image, code.to(image.dtype)).logits
        fake_logits = discriminator(fake.to(image.dtype), latents).logits
        return {
            "loss": discriminator_loss(LOSS, real_logits, fake_logits),
            "accuracy": accuracy(LOSS, real_logits.detach(), fake_logits.detach()),
        }

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        encoder: ModelMixin,
        generator: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            encoder: x -> z.
            generator: z -> x.
            discriminator: x, z -> logit of (x, E(x)) rather than (G(z), z).
            data: What the training data look like.
            discriminator_learning_rate: Of the discriminator; the loop's by default.
        """
        super().__init__({"encoder": encoder, "generator": generator, "discriminator": discriminator}, data)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        config: Any = generator.config
        self.latent_dim: int = config.latent_dim

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        decoded = networks["generator"](networks["encoder"](batch["image"]).mean).sample
        return {"mse": clamped_squared_error(decoded, batch["image"])}
