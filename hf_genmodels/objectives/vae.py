"""The VAE's objective: the negative evidence lower bound, with beta, warm-up and free bits."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..choices import KLEstimator
from ..data.spec import DataSpec
from ..losses.likelihood import free_bits, kl_sampled, kl_standard_normal
from ..losses.reconstruction import clamped_squared_error
from ..pipelines.vae import VAEPipeline
from .base import Batch, Noise, Objective, Phase


class VAEObjective(Objective):
    """-E_q log p(x|z) + beta KL(q(z|x) || N(0, I)) (Kingma & Welling 2013, eq. 7; beta: Higgins et al. 2017).

    One phase trains encoder and decoder together. `reconstruction_nll` (E_q[-log p(x|z)]) + `kl` in the log is the
    negative ELBO in nats, whatever beta is. With free bits the average that is clamped is over one process's
    micro-batch.

    The KL is its closed form (eq. 7 of the paper), or log q(z|x) - log p(z) at the one z that is decoded (eq. 6),
    which has the same mean and scatters.
    """

    pipeline_class = VAEPipeline
    ema = ("vae",)
    shows_reconstructions = True
    phases = (Phase("elbo", trains=("vae",)),)

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
        return {"loss": nll + self.beta * penalised, "reconstruction_nll": nll, "kl": kl_mean}

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
    ) -> None:
        """Put the parts together.

        Args:
            vae: x -> q(z|x), z -> p(x|z).
            data: What the training data look like.
            beta: Weight of the KL term.
            beta_warmup_steps: Steps over which beta rises linearly from 0.
            free_bits: Nats a latent dimension below which its batch-averaged KL is not pushed.
            kl_estimator: "closed_form", or "sampled": log q(z|x) - log p(z) at the z that is decoded.
        """
        super().__init__({"vae": vae}, data)
        self.beta = self.final_beta = beta
        self.beta_warmup_steps: int = beta_warmup_steps
        self.schedule = (("beta_warmup_steps", beta_warmup_steps),)
        self.free_bits = free_bits
        self.kl_estimator = kl_estimator

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
