"""VAE/GAN's objective: a VAE whose reconstructions are compared in the feature space of a discriminator."""

import math
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.gan import GAN_LOSSES, accuracy, generator_loss, mean_of
from ..losses.likelihood import kl_standard_normal, sum_per_sample
from ..losses.reconstruction import clamped_squared_error
from ..pipelines.vaegan import VAEGANPipeline
from .base import Batch, Noise, Objective, Phase, latent_samples

ADVERSARIAL_LOSS = "linear_logit"


class VAEGANObjective(Objective):
    """VAE/GAN (Larsen et al. 2016, arXiv 1512.09300), as the AVAE authors' code has it.

    With r the discriminator's features divided by sqrt 2, x' = D(z) for z ~ q(z|x), and d the logit of "real":

    feature error  L_r = 1/2 ||r(x) - r(x')||^2
    encoder        L_r + beta KL
    decoder        feature_weight L_r - d(x') - d(D(z_p)), z_p from the prior
    discriminator  -log D(x) - log(1 - D(x')) - log(1 - D(D(z_p)))

    Each network learns from its own loss alone: the discriminator first, then the encoder, then the decoder on the
    latents that the encoder was trained on. The authors update all at each other's old weights (see `GANObjective`).

    The features of a `DCGANDiscriminator` are those of its `feature_block`, of an `MLPDiscriminator` those of its last
    hidden layer.
    """

    pipeline_class = VAEGANPipeline
    ema = ("encoder", "decoder")
    shows_reconstructions = True
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("encoder", trains=("encoder",), reuse_batch=True),
        Phase("decoder", trains=("decoder",), reuse_batch=True),
    )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "encoder":
            return self.encoder_losses(networks, batch["image"], noise, cache)
        if phase.name == "decoder":
            return self.decoder_losses(networks, batch["image"], noise, cache)
        return self.discriminator_losses(networks, batch["image"], noise)

    def encoder_losses(
        self, networks: dict[str, Any], image: Tensor, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """L_r + beta KL."""
        encoded = networks["encoder"](image)
        latents = self.posterior_draw(encoded, image, noise)
        with torch.no_grad():
            real_features = networks["discriminator"](image).features
        cache["latents"], cache["real_features"] = latents.detach(), real_features
        decoded = networks["decoder"](latents).sample
        error = feature_error(real_features, networks["discriminator"](decoded).features)
        kl = kl_standard_normal(encoded.mean, encoded.log_std).sum(1).mean()
        return {"loss": error + self.beta * kl, "feature_error": error, "kl": kl}

    def decoder_losses(
        self, networks: dict[str, Any], image: Tensor, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The adversarial loss on reconstructions and on samples, and a little of L_r."""
        latents = cache.pop("latents")
        prior = noise.normal(tuple(latents.shape), like=image)
        decoded, sampled = networks["decoder"](latents).sample, networks["decoder"](prior).sample
        judged = networks["discriminator"](decoded)
        error = feature_error(cache.pop("real_features"), judged.features)
        adversarial = generator_loss(ADVERSARIAL_LOSS, judged.logits)
        adversarial = adversarial + generator_loss(ADVERSARIAL_LOSS, networks["discriminator"](sampled).logits)
        return {"loss": self.feature_weight * error + adversarial, "adversarial": adversarial}

    def discriminator_losses(self, networks: dict[str, Any], image: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Cross-entropy on data, on reconstructions and on samples."""
        with torch.no_grad():
            latents = self.posterior_draw(networks["encoder"](image), image, noise)
            prior = noise.normal(tuple(latents.shape), like=image)
            reconstructions, samples = networks["decoder"](latents).sample, networks["decoder"](prior).sample
        real = networks["discriminator"](image).logits
        decoded = networks["discriminator"](reconstructions.to(image.dtype)).logits
        sampled = networks["discriminator"](samples.to(image.dtype)).logits
        loss = GAN_LOSSES[ADVERSARIAL_LOSS]
        fakes = mean_of(loss.fake, decoded, "decoded logits") + mean_of(loss.fake, sampled, "sampled logits")
        return {
            "loss": mean_of(loss.real, real, "real logits") + fakes,
            "accuracy": accuracy(ADVERSARIAL_LOSS, real.detach(), torch.cat([decoded, sampled]).detach()),
        }

    def posterior_draw(self, encoded: Any, image: Tensor, noise: Noise) -> Tensor:
        """Draws from q(z|x), for what the encoder says of the images."""
        eps = noise.normal((len(image), self.latent_dim), like=image)
        latents: Tensor = encoded.mean + torch.exp(encoded.log_std) * eps
        return latents

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        encoder: ModelMixin,
        decoder: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        beta: float = 5.0,
        feature_weight: float = 0.01,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            encoder: x -> mean and log standard deviation of z.
            decoder: z -> x.
            discriminator: x -> logit of "real", and the features that are compared.
            data: What the training data look like.
            beta: Weight of the KL term (thesis: 4 to 20, depending on the data set).
            feature_weight: Weight of the feature error in the decoder's loss, gamma in the paper.
            discriminator_learning_rate: Of the discriminator; the loop's by default.
        """
        super().__init__({"encoder": encoder, "decoder": decoder, "discriminator": discriminator}, data)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.beta, self.feature_weight = beta, feature_weight
        config: Any = decoder.config
        self.latent_dim: int = config.latent_dim

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["decoder"], count, generator)

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        encoded = networks["encoder"](batch["image"])
        return {
            "mse": clamped_squared_error(networks["decoder"](encoded.mean).sample, batch["image"]),
            "kl": kl_standard_normal(encoded.mean, encoded.log_std).sum(1),
        }


def feature_error(real: Tensor, decoded: Tensor) -> Tensor:
    """1/2 ||r(x) - r(x')||^2, mean over the batch, for features divided by sqrt 2."""
    return 0.5 * sum_per_sample(((real.float() - decoded.float()) / math.sqrt(2)).square()).mean()
