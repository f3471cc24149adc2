"""FactorVAE's objective: a VAE whose total correlation a discriminator of codes estimates."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.gan import accuracy, discriminator_loss
from ..losses.total_correlation import permuted_dimensions
from .base import Batch, Noise, Phase
from .global_batch import rows_of_all
from .vae import VAEObjective

# the discriminator's cross-entropy: codes are "real", codes with permuted dimensions are "fake"
DISCRIMINATOR_LOSS = "minimax"


class FactorVAEObjective(VAEObjective):
    """FactorVAE (Kim & Mnih 2018, arXiv 1802.05983, eq. 2 and algorithm 2), with d the logit of "not permuted".

    vae            the VAE's loss + tc_weight E_q(z) d(z), for d(z) = log q(z) / prod_j q(z_j) at the optimum (eq. 3)
    discriminator  -log D(z) - log(1 - D(z')), z the codes that the VAE was trained on, z' of a fresh batch, each
                   dimension permuted over the micro-batches of all processes

    The paper halves the discriminator's loss, which an Adam optimiser does not see, and gives that optimiser betas of
    its own, 0.5 and 0.9; here it has the loop's.
    """

    phases = (Phase("elbo", trains=("vae",)), Phase("discriminator", trains=("discriminator",)))

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "discriminator":
            return self.discriminator_losses(networks, batch["image"], noise, cache)
        return super().losses(phase, networks, batch, noise, cache)

    def total_correlation(
        self, networks: dict[str, Any], latents: Tensor, output: Any, noise: Noise, cache: dict[str, Any]
    ) -> Tensor:
        """The discriminator's mean logit, a scalar."""
        cache["latents"] = latents.detach()
        logits: Tensor = networks["discriminator"](latents).logits
        return logits.float().mean()

    def discriminator_losses(
        self, networks: dict[str, Any], image: Tensor, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Cross-entropy on codes, and on codes with permuted dimensions."""
        codes = cache.pop("latents")
        with torch.no_grad():
            mean, log_std = networks["vae"].posterior_parameters(image)
            draws = mean + torch.exp(log_std) * noise.normal(tuple(mean.shape), like=mean)
            order = noise.uniform(tuple(mean.shape), like=mean)
            everyones, orders = rows_of_all(draws, noise), rows_of_all(order, noise)
            permuted = permuted_dimensions(everyones, orders).split(len(draws))
            permuted = permuted[noise.share % len(permuted)]
        real = networks["discriminator"](codes).logits
        fake = networks["discriminator"](permuted).logits
        return {
            "loss": discriminator_loss(DISCRIMINATOR_LOSS, real, fake),
            "accuracy": accuracy(DISCRIMINATOR_LOSS, real.detach(), fake.detach()),
        }

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        vae: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        tc_weight: float,
        discriminator_learning_rate: float | None = None,
        **options: Any,
    ) -> None:
        """Put the parts together.

        Args:
            vae: x -> q(z|x), z -> p(x|z).
            discriminator: z -> logit of "not permuted".
            data: What the training data look like.
            tc_weight: Weight of the total correlation, above 0; gamma in the paper.
            discriminator_learning_rate: Of the discriminator; the loop's by default.
            options: Others of `VAEObjective`.
        """
        super().__init__(
            vae, data, tc_weight=tc_weight, tc_estimator="discriminator", discriminator=discriminator, **options
        )
        self.learning_rates["discriminator"] = discriminator_learning_rate
