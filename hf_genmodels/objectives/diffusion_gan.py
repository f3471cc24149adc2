"""The denoising diffusion GAN's objective: a conditional GAN for each of a few large steps back (Xiao et al. 2022)."""

from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler, ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.diffusion import posterior_sample, q_sample
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..losses.penalties import r1_penalty
from ..pipelines.diffusion_gan import DiffusionGANPipeline, check_scheduler
from .base import Batch, Noise, Objective, Phase

GAN_LOSS = "non_saturating"


class NoisyPair(NamedTuple):
    """Two neighbours of the chain that adds noise, of each sample at a time of its own.

    Attributes:
        previous: x_{t-1}, as the samples.
        noisy: x_t, same shape.
        timesteps: t - 1, from 0, (batch,).
    """

    previous: Tensor
    noisy: Tensor
    timesteps: Tensor


class DiffusionGANObjective(Objective):
    """min E_t E_q(x_t) D_adv(q(x_{t-1} | x_t) || p(x_{t-1} | x_t)) (arXiv 2112.07804, eq. 4).

    The generator says x_0 = G(x_t, t, z), another one for each z, and the fake x_{t-1} is a draw from q(x_{t-1} | x_t,
    x_0) (eq. 6 and 7). The discriminator D(x_{t-1}, x_t, t) learns to tell it from x_{t-1} of the data (eq. 5), with
    the non-saturating loss; its R1 penalty is gamma / 2 ||grad D||^2 with respect to x_{t-1} of the data.

    The penalty is part of the loss in every `penalty_every`-th step, with a gamma that is not multiplied by that
    number, as in the authors' code. Both phases of a step see the same batch, each with noise and times of its own.
    """

    ema = ("generator",)

    alpha_bars: Tensor

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        pair = self.diffused(batch["image"], noise)
        if phase.name == "generator":
            fake = self.fake(networks["generator"], pair, noise)
            judged = networks["discriminator"](fake, pair.noisy, pair.timesteps).logits
            return {"loss": generator_loss(GAN_LOSS, judged)}
        return self.discriminator_losses(networks, pair, noise)

    def discriminator_losses(self, networks: dict[str, Any], pair: NoisyPair, noise: Noise) -> dict[str, Tensor]:
        """The discriminator's loss, its penalty where the step has one, and the share that it judges rightly."""
        with torch.no_grad():
            fake = self.fake(networks["generator"], pair, noise)
        judge, previous = networks["discriminator"], pair.previous.requires_grad_(self.is_penalised)
        on_real = judge(previous, pair.noisy, pair.timesteps).logits
        on_fake = judge(fake, pair.noisy, pair.timesteps).logits
        losses = {"loss": discriminator_loss(GAN_LOSS, on_real, on_fake)}
        losses["accuracy"] = accuracy(GAN_LOSS, on_real.detach(), on_fake.detach())
        if self.is_penalised:
            losses["penalty"] = r1_penalty(on_real, previous, self.penalty_weight)
            losses["loss"] = losses["loss"] + losses["penalty"]
        return losses

    def before_step(self, step: int) -> None:
        self.is_penalised = self.penalty_weight > 0 and step % self.penalty_every == 0

    def diffused(self, sample: Tensor, noise: Noise) -> NoisyPair:
        """Two neighbours of each sample's chain, at a random time."""
        bars = self.alpha_bars = self.alpha_bars.to(sample.device)
        timesteps = (noise.uniform((len(sample),), like=sample) * (len(bars) - 1)).long()
        before, after = bars[timesteps], bars[timesteps + 1]
        previous = q_sample(sample, noise.normal(tuple(sample.shape), like=sample), before)
        noisy = q_sample(previous, noise.normal(tuple(sample.shape), like=sample), after / before)
        return NoisyPair(previous, noisy, timesteps)

    def fake(self, generator: Any, pair: NoisyPair, noise: Noise) -> Tensor:
        """x_{t-1} of the generator's x_0."""
        noisy = pair.noisy
        latents = noise.normal((len(noisy), self.latent_dim), like=noisy)
        sample = generator(noisy, pair.timesteps, latents).sample.to(noisy.dtype)
        bars = self.alpha_bars[pair.timesteps + 1], self.alpha_bars[pair.timesteps]
        return posterior_sample(sample, noisy, noise.normal(tuple(noisy.shape), like=noisy), *bars)

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
        scheduler: DDPMScheduler,
        data: DataSpec,
        penalty_weight: float = 0.02,
        penalty_every: int = 15,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: x_t, t - 1, z -> x_0.
            discriminator: x_{t-1}, x_t, t - 1 -> logit of "real".
            scheduler: The noise of a few large steps, see `families.diffusion_gan.build_scheduler`.
            data: What the training data look like.
            penalty_weight: gamma of R1; 0 for none.
            penalty_every: See above.
            discriminator_learning_rate: Of the discriminator; the loop's by default.

        Raises:
            UserError: The scheduler is another one.
        """
        check_scheduler(scheduler)
        super().__init__({"generator": generator, "discriminator": discriminator}, data)
        self.learning_rates = {"discriminator": discriminator_learning_rate}
        self.scheduler: Any = scheduler
        bars = self.scheduler.alphas_cumprod
        self.alpha_bars = torch.cat([torch.ones_like(bars[:1]), bars])  # of x_0, x_1, ... x_T
        config: Any = generator.config
        self.latent_dim: int = config.latent_dim
        self.penalty_weight, self.penalty_every = penalty_weight, penalty_every
        self.before_step(0)
        # a phase is one or the other: the discriminator is float32 in all of its steps, though few have a penalty
        self.phases = (
            Phase("discriminator", trains=("discriminator",), double_backward=penalty_weight > 0),
            Phase("generator", trains=("generator",), reuse_batch=True),
        )

    # pictures --------------------------------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> DiffusionGANPipeline:
        return DiffusionGANPipeline(networks["generator"], self.scheduler, value_scale=self.data.value_scale)

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        made: Any = self.pipeline(networks)(count, generator, output_type="pt")
        samples: Tensor = made.images
        return samples * 2 - 1 if self.data.is_image else samples
