"""The VAE's objective: the negative evidence lower bound, with beta, warm-up, free bits and total correlation."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..choices import KLEstimator, TCEstimator
from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.likelihood import free_bits, kl_sampled, kl_standard_normal
from ..losses.reconstruction import clamped_squared_error
from ..losses.total_correlation import batch_total_correlation
from ..pipelines.vae import VAEPipeline
from .base import Batch, Noise, Objective, Phase
from .global_batch import rows_of_all


class VAEObjective(Objective):
    """-E_q log p(x|z) + beta KL(q(z|x) || N(0, I)) (Kingma & Welling 2013, eq. 7; beta: Higgins et al. 2017).

    One phase trains encoder and decoder together. `reconstruction_nll` (E_q[-log p(x|z)]) + `kl` in the log is the
    negative ELBO in nats, whatever beta is. With free bits the average that is clamped is over one process's
    micro-batch.

    The KL is its closed form (eq. 7 of the paper), or log q(z|x) - log p(z) at the one z that is decoded (eq. 6),
    which has the same mean and scatters.

    A weight of the total correlation adds that much of KL(q(z) || prod_j q(z_j)), of which the KL term has one part
    already: a weight of 5 is the beta-TC-VAE of beta 6 (Chen et al. 2018, eq. 4 with alpha = gamma = 1; the authors'
    loss to the last digit with the sampled KL). It is estimated from the micro-batch, of all processes together.
    """

    pipeline_class = VAEPipeline
    ema = ("vae",)
    shows_reconstructions = True
    phases: tuple[Phase, ...] = (Phase("elbo", trains=("vae",)),)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image = batch["image"]
        vae: Any = self.networks["vae"]
        eps = noise.normal((len(image), vae.config.latent_dim), like=image)
        output = networks["vae"](image, eps)
        nll = vae.negative_log_likelihood(image, output.decoded, output.log_scale).mean()
        latents = output.mean + torch.exp(output.log_std) * eps
        if self.kl_estimator == "sampled":
            kl = kl_sampled(latents, output.mean, output.log_std)
        else:
            kl = kl_standard_normal(output.mean, output.log_std)
        kl_mean = kl.sum(1).mean()
        penalised = free_bits(kl, self.free_bits) if self.free_bits > 0 else kl_mean
        losses = {"loss": nll + self.beta * penalised, "reconstruction_nll": nll, "kl": kl_mean}
        if self.tc_weight > 0:
            correlation = self.total_correlation(networks, latents, output, noise, cache)
            losses["loss"] = losses["loss"] + self.tc_weight * correlation
            losses["total_correlation"] = correlation.detach()
        return losses

    def total_correlation(
        self, networks: dict[str, Any], latents: Tensor, output: Any, noise: Noise, cache: dict[str, Any]
    ) -> Tensor:
        """Estimate of KL(q(z) || prod_j q(z_j)), a scalar."""
        parameters = rows_of_all(torch.cat([output.mean, output.log_std], 1), noise)
        mean, log_std = parameters.chunk(2, dim=1)
        first_row = noise.share % (len(mean) // len(latents)) * len(latents)
        assert self.data.num_examples is not None  # the constructor has looked
        return batch_total_correlation(
            self.tc_estimator, latents, mean, log_std, self.data.num_examples, first_row
        ).mean()

    def before_step(self, step: int) -> None:
        self.beta = (
            self.final_beta * min(1.0, step / self.beta_warmup_steps) if self.beta_warmup_steps else self.final_beta
        )

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        vae: ModelMixin,
        data: DataSpec,
        beta: float = 1.0,
        beta_warmup_steps: int = 0,
        free_bits: float = 0.0,
        kl_estimator: KLEstimator = "closed_form",
        tc_weight: float = 0.0,
        tc_estimator: TCEstimator = "minibatch_weighted",
        **others: ModelMixin,
    ) -> None:
        """Put the parts together.

        Args:
            vae: x -> q(z|x), z -> p(x|z).
            data: What the training data look like.
            beta: Weight of the KL term.
            beta_warmup_steps: Steps over which beta rises linearly from 0.
            free_bits: Nats a latent dimension below which its batch-averaged KL is not pushed.
            kl_estimator: "closed_form", or "sampled": log q(z|x) - log p(z) at the z that is decoded.
            tc_weight: Weight of the total correlation, on top of what the KL term has of it.
            tc_estimator: See `losses/total_correlation.py`; "discriminator" is `FactorVAEObjective`'s.
            others: Networks of a subclass.

        Raises:
            UserError: There is one latent dimension, whose total correlation is 0, or the total correlation is to be
                estimated from batches of data whose number is unknown.
        """
        super().__init__({"vae": vae, **others}, data)
        self.beta = self.final_beta = beta
        self.beta_warmup_steps: int = beta_warmup_steps
        self.schedule = (("beta_warmup_steps", beta_warmup_steps),)
        self.free_bits = free_bits
        self.kl_estimator = kl_estimator
        self.tc_weight, self.tc_estimator = tc_weight, tc_estimator
        config: Any = vae.config
        if tc_weight > 0 and config.latent_dim < 2:
            raise UserError(
                "--tc_weight has no meaning with --latent_dim 1, whose total correlation is 0; leave it out or choose "
                "more dimensions"
            )
        if tc_weight > 0 and data.num_examples is None and tc_estimator != "discriminator":
            raise UserError(
                f"--tc_estimator {tc_estimator} needs to know how many examples there are, and {data.name} is "
                "streamed; use --tc_estimator discriminator"
            )

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        vae = networks["vae"]
        image = batch["image"]
        draw = torch.randn(len(image), vae.config.latent_dim, generator=generator).to(image)
        output = vae(image, draw)
        nll = vae.negative_log_likelihood(image, output.decoded, output.log_scale)
        kl = kl_standard_normal(output.mean, output.log_std).sum(1)
        return {
            "negative_elbo": nll + kl,
            "reconstruction_nll": nll,
            "kl": kl,
            "mse": clamped_squared_error(vae.decode(output.mean), image),
        }
