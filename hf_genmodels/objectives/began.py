"""BEGAN's objective: the discriminator is an autoencoder, and a control loop keeps its two losses in proportion."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.gan import at_least_float32
from ..pipelines.gan import GANPipeline
from .base import Batch, Gather, Noise, Objective, Phase, latent_samples


class BEGANObjective(Objective):
    """Boundary equilibrium GAN (Berthelot et al. 2017, arXiv 1703.10717, section 3.3).

    With D an autoencoder and L(v) = |v - D(v)|, the mean over all entries (the paper's eta = 1):

    generator      L_G = L(G(z))
    discriminator  L_D = L(x) - k L(G(z))
    then           k <- k + lambda_k (gamma L(x) - L(G(z))), kept within [0, 1]; 0 at first

    `convergence` in the log is the paper's global measure M = L(x) + |gamma L(x) - L(G(z))|.

    The discriminator goes first, each network on fakes of its own. The losses that move k are those of the
    discriminator's update, averaged over all micro-batches and processes. A saved model that is trained further starts
    with k = 0 again; a resumed run goes on with its own k.

    k rises by at most lambda_k gamma L(x) in an update. With the paper's gain of 0.001 it stays near 0 for thousands
    of updates, in which the discriminator is an autoencoder alone, and the generator makes what that restores best,
    nearly the same for every z. Short runs want a larger gain, see `model_cards/reference/began.md`.

    For vectors the code should have fewer dimensions than the data: an autoencoder that can copy anything finds no
    fault with a fake.

    Differences from the paper: its k and M take L(G(z_G)), of the fakes of the generator's phase, where these take the
    discriminator's; the two networks are updated one after the other, so that the generator is judged by the updated
    discriminator; z is standard normal (there uniform in [-1, 1]); and the learning rate follows the loop's schedule
    (there it is halved whenever M stalls). The paper says Adam and 1e-4 but no betas; 0.5 is DCGAN's.
    """

    pipeline_class = GANPipeline
    ema = ("generator",)
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
    )
    k: Tensor

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real, discriminator = batch["image"], networks["discriminator"]
        with torch.set_grad_enabled(phase.name == "generator"):
            fake = networks["generator"](noise.normal((len(real), self.latent_dim), like=real)).sample
        if phase.name == "generator":
            return {"loss": reconstruction_loss(discriminator, fake)}
        self.k = self.k.to(real.device)
        on_real = reconstruction_loss(discriminator, real)
        on_fake = reconstruction_loss(discriminator, fake.to(real.dtype))
        pair = torch.stack([on_real, on_fake]).detach()
        self.measured.append(pair)
        return {
            "loss": on_real - self.k * on_fake,
            "real": pair[0],
            "fake": pair[1],
            "convergence": pair[0] + self.imbalance(pair).abs(),
            "k": self.k,
        }

    def imbalance(self, pair: Tensor) -> Tensor:
        """How far from equilibrium [L(x), L(G(z))] are: gamma L(x) - L(G(z))."""
        return self.gamma * pair[0] - pair[1]

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Gather) -> None:
        if phase.name == "discriminator":
            pair = gather(torch.stack(self.measured).mean(0)[None]).mean(0)
            self.measured.clear()
            self.k = (self.k + self.lambda_k * self.imbalance(pair)).clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.k = state["k"]

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        gamma: float = 0.5,
        lambda_k: float = 0.001,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: z -> x.
            discriminator: x -> reconstruction of x.
            data: What the training data look like.
            gamma: L(G(z)) / L(x) that is aimed at, 0 to 1: lower for better, higher for more diverse samples.
            lambda_k: Gain of the control loop of k, 0 to 1.
            discriminator_learning_rate: Of the discriminator; the loop's by default.
        """
        super().__init__({"generator": generator, "discriminator": discriminator}, data)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.gamma, self.lambda_k = gamma, lambda_k
        config: Any = generator.config
        self.latent_dim: int = config.latent_dim
        self.k = torch.zeros(())
        self.measured: list[Tensor] = []  # [L(x), L(G(z))] of each micro-batch of the discriminator's update

    # pictures --------------------------------------------------------------------------------------------------------

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)


def reconstruction_loss(discriminator: Any, sample: Tensor) -> Tensor:
    """L(v) = |v - D(v)|, mean over all entries and the batch."""
    reconstruction = discriminator(sample).reconstruction
    return (at_least_float32(sample) - at_least_float32(reconstruction)).abs().mean()
