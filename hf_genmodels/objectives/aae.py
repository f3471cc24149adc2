"""The adversarial autoencoder's objective: an autoencoder whose codes a discriminator pulls towards a prior."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..choices import LatentPrior
from ..data.spec import DataSpec
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..losses.latent_prior import check_prior, sample_prior
from ..losses.likelihood import sum_per_sample
from ..losses.reconstruction import clamped_squared_error
from ..pipelines.aae import AAEPipeline
from .base import Batch, Noise, Objective, Phase

LOSS = "non_saturating"


class AAEObjective(Objective):
    """Adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644) with a deterministic encoder.

    reconstruction  encoder E and decoder D: ||D(E(x)) - x||^2, summed over a sample's entries
    discriminator   cross-entropy: draws from the prior are real, codes E(x) are fake
    regularisation  encoder: -log sigmoid(d(E(x)))

    The phases follow each other as in the paper, each at the weights that the one before left. The encoder has one
    Adam for its two losses, where the paper has an SGD for each, so that their sizes count against each other; the
    squared error is a sum, as a log-likelihood is, to which the other loss relates as the KL does in a VAE.
    """

    pipeline_class = AAEPipeline
    ema = ("encoder", "decoder")
    shows_reconstructions = True
    phases = (
        Phase("reconstruction", trains=("encoder", "decoder")),
        Phase("discriminator", trains=("discriminator",), reuse_batch=True),
        Phase("regularisation", trains=("encoder",), reuse_batch=True),
    )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image, encoder, discriminator = batch["image"], networks["encoder"], networks["discriminator"]
        if phase.name == "reconstruction":
            decoded = networks["decoder"](encoder(image).mean).sample
            return {"loss": sum_per_sample((decoded.float() - image.float()).square()).mean()}
        if phase.name == "regularisation":
            return {"loss": generator_loss(LOSS, discriminator(encoder(image).mean).logits)}
        with torch.no_grad():
            codes = encoder(image).mean
        normal = noise.normal((len(image), self.latent_dim), like=image)
        drawn = self.of_prior(normal, noise.uniform((len(image),), like=image))
        on_prior, on_codes = discriminator(drawn).logits, discriminator(codes.to(image.dtype)).logits
        return {
            "loss": discriminator_loss(LOSS, on_prior, on_codes),
            "accuracy": accuracy(LOSS, on_prior.detach(), on_codes.detach()),
        }

    def of_prior(self, normal: Tensor, uniform: Tensor) -> Tensor:
        """Draws from the prior: (batch, latent_dim) and (batch,) random numbers -> (batch, latent_dim)."""
        return sample_prior(self.prior, normal, uniform, self.num_components)

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        encoder: ModelMixin,
        decoder: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        prior: LatentPrior = "gaussian",
        num_components: int = 10,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            encoder: x -> z.
            decoder: z -> x.
            discriminator: z -> logit of "drawn from the prior".
            data: What the training data look like.
            prior: What the codes are to follow, see `losses/latent_prior.py`.
            num_components: "mixture": number of Gaussians.
            discriminator_learning_rate: Of the discriminator; the loop's by default.

        Raises:
            UserError: There is no such prior.
        """
        super().__init__({"encoder": encoder, "decoder": decoder, "discriminator": discriminator}, data)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        config: Any = decoder.config
        self.latent_dim: int = config.latent_dim
        check_prior(prior, self.latent_dim, num_components)
        self.prior, self.num_components = prior, num_components

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, Any]) -> AAEPipeline:
        return AAEPipeline(
            networks["encoder"],
            networks["decoder"],
            prior=self.prior,
            num_components=self.num_components,
            value_scale=self.data.value_scale,
        )

    def watched_samples(self, networks: dict[str, Any], count: int, generator: torch.Generator) -> Tensor:
        decoder = networks["decoder"]
        normal = torch.randn(count, self.latent_dim, generator=generator)
        latents = self.of_prior(normal, torch.rand(count, generator=generator))
        sample: Tensor = decoder(latents.to(decoder.device, decoder.dtype)).sample
        return sample

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        decoded = networks["decoder"](networks["encoder"](batch["image"]).mean).sample
        return {"mse": clamped_squared_error(decoded, batch["image"])}
