"""AVAE's objective: a VAE, and a generator that shares its latent space and learns from a critic."""

from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..blocks.adversarial import running_averages_kept
from ..choices import LatentLoss
from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..losses.latent import latent_loss
from ..losses.likelihood import kl_standard_normal, sum_per_sample
from ..losses.reconstruction import clamped_squared_error
from ..pipelines.avae import AVAEPipeline
from .base import Batch, Noise, Objective, Phase, latent_samples

CRITIC_LOSS = "linear_logit"  # L_C and L_M


class AVAEObjective(Objective):
    """Adversarial VAE (Plumerault et al. 2020, arXiv 2012.11551; thesis, chapter 3).

    vae (encoder E, decoder D)  L_rec + beta L_KL, with z = mu(x) + sigma eps and D(z) of fixed deviation 1
    generator G                 L_Z + L_M, where mu(G(z, xi)) is to be z and the critic is to take G(z, xi) for data
    critic C                    L_C; its logit says "real", which is minus the paper's

    Gradients pass through E and C into G without changing them. E and D do not depend on G or C: they are a VAE. E's
    running averages of batch statistics are those of data alone.

    Differences from the paper: critic, generator and VAE are updated one after the other, where the authors update all
    at each other's old weights (see `GANObjective` for why), and the latent loss sets in after a warm-up (with equal
    weights from the start the generator finds patterns that please E, and the critic wins), which
    `latent_warmup_steps=0` undoes. Training further from a saved model begins with the warm-up again.

    With `frozen_vae` encoder and decoder are those of a trained VAE and stay as they are: generator and critic alone
    learn, decoupled from it as the thesis proposes (section 3.5). Sigma may then depend on the image: L_Z takes that
    of each fake.

    Log sigma moves by at most a learning rate a step: a short run ends with sigma near 1, hence with blurrier
    reconstructions and a weaker latent loss. `log_std_learning_rate` gives it a rate of its own.
    """

    pipeline_class = AVAEPipeline
    ema = ("encoder", "decoder", "generator")
    phases: tuple[Phase, ...] = (
        Phase("critic", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
        Phase("vae", trains=("encoder", "decoder"), reuse_batch=True),
    )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self.generator_losses(networks, batch["image"], noise)
        if phase.name == "critic":
            return self.critic_losses(networks, batch["image"], noise)
        return self.vae_losses(networks, batch["image"], noise)

    def generator_losses(self, networks: dict[str, Any], image: Tensor, noise: Noise) -> dict[str, Tensor]:
        """L_Z + L_M on fakes."""
        draws = self.draw(image, noise)
        fake = networks["generator"](draws).sample
        with running_averages_kept(networks["encoder"]):
            encoded = networks["encoder"](fake)
        on_latents = latent_loss(self.latent_loss, draws[:, : self.latent_dim], encoded.mean, encoded.log_std)
        on_critic = generator_loss(CRITIC_LOSS, networks["discriminator"](fake).logits)
        return {"loss": self.latent_weight * on_latents + on_critic, "latent": on_latents, "critic": on_critic}

    def critic_losses(self, networks: dict[str, Any], image: Tensor, noise: Noise) -> dict[str, Tensor]:
        """L_C on data and on fakes."""
        with torch.no_grad():
            fakes = networks["generator"](self.draw(image, noise)).sample
        real = networks["discriminator"](image).logits
        fake = networks["discriminator"](fakes.to(image.dtype)).logits
        return {
            "loss": discriminator_loss(CRITIC_LOSS, real, fake),
            "accuracy": accuracy(CRITIC_LOSS, real.detach(), fake.detach()),
        }

    def vae_losses(self, networks: dict[str, Any], image: Tensor, noise: Noise) -> dict[str, Tensor]:
        """L_rec + beta L_KL."""
        encoded = networks["encoder"](image)
        eps = noise.normal((len(image), self.latent_dim), like=image)
        decoded = networks["decoder"](encoded.mean + torch.exp(encoded.log_std) * eps).sample
        reconstruction = 0.5 * sum_per_sample((decoded.float() - image.float()).square()).mean()
        kl = kl_standard_normal(encoded.mean, encoded.log_std).sum(1).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}

    def draw(self, image: Tensor, noise: Noise) -> Tensor:
        """[z, xi] for as many fakes as there are images."""
        return noise.normal((len(image), self.latent_dim + self.xi_dim), like=image)

    def before_step(self, step: int) -> None:
        warmup = self.latent_warmup_steps
        self.latent_weight = min(1.0, max(0.0, step / warmup - 1)) if warmup else 1.0

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        encoder: ModelMixin,
        decoder: ModelMixin,
        generator: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        latent_loss: LatentLoss = "nll_b",
        latent_warmup_steps: int = 500,
        beta: float = 1.0,
        log_std_learning_rate: float | None = None,
        discriminator_learning_rate: float | None = None,
        frozen_vae: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            encoder: x -> mu(x), and one log sigma for all samples.
            decoder: z -> x.
            generator: [z, xi] -> x; what its latents have more than the decoder's is xi.
            discriminator: x -> logit of "real".
            data: What the training data look like.
            latent_loss: L_Z, see `losses/latent.py`.
            latent_warmup_steps: L_Z has no weight for so many steps, then rises to its own over as many.
            beta: Weight of the KL term.
            log_std_learning_rate: Of log sigma, the encoder's parameter `log_std`; the loop's by default.
            discriminator_learning_rate: Of the critic; the loop's by default.
            frozen_vae: Leave encoder and decoder as they are.

        Raises:
            UserError: The encoder has no parameter `log_std` to give a learning rate to.
        """
        networks = {"encoder": encoder, "decoder": decoder, "generator": generator, "discriminator": discriminator}
        super().__init__(networks, data)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        if frozen_vae:
            self.frozen, self.phases = ("encoder", "decoder"), self.phases[:2]
        self.log_std_learning_rate = log_std_learning_rate
        if log_std_learning_rate is not None and "log_std" not in dict(encoder.named_parameters()):
            raise UserError("log_std_learning_rate is that of a parameter log_std, which the encoder does not have")
        self.latent_loss, self.beta = latent_loss, beta
        self.latent_warmup_steps, self.latent_weight = latent_warmup_steps, 1.0
        self.schedule = (("latent_warmup_steps", 2 * latent_warmup_steps),)
        of_decoder: Any = decoder.config
        of_generator: Any = generator.config
        self.latent_dim: int = of_decoder.latent_dim
        self.xi_dim: int = of_generator.latent_dim - of_decoder.latent_dim

    def param_groups(self, name: str) -> list[dict[str, Any]]:
        """As of every objective, but log sigma has a group of its own."""
        (group,) = super().param_groups(name)
        parameters = dict(self.networks[name].named_parameters())
        if name != "encoder" or "log_std" not in parameters:
            return [group]
        log_std, rate = parameters.pop("log_std"), self.log_std_learning_rate
        own = group | {"params": [log_std]}
        return [group | {"params": list(parameters.values())}, own if rate is None else own | {"lr": rate}]

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = super().sample_grid(pipeline, batch, generator)
        if not self.data.is_image:
            restored = pipeline.reconstruct(batch["image"], sample=True, generator=generator, output_type="pt").images
            return {**pictures, "reconstructions": restored}
        few = batch["image"][:8]
        spread = pipeline.reconstruct(
            (few + 1) / 2, num_samples=6, sample=pipeline.xi_dim == 0, generator=generator, output_type="pt"
        ).images.unflatten(0, (len(few), 6))
        blurry = pipeline.reconstruct((few + 1) / 2, network="decoder", output_type="pt").images
        original = ((few + 1) / 2).to(spread)
        rows = torch.cat([original[:, None], blurry[:, None].to(spread), spread], dim=1)
        return {**pictures, "image, decoder, generator": rows.flatten(0, 1)}

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        encoded = networks["encoder"](image)
        draws = torch.randn(len(image), self.latent_dim + self.xi_dim, generator=generator).to(image)
        eps, xi = draws[:, : self.latent_dim], draws[:, self.latent_dim :]
        latents = encoded.mean + torch.exp(encoded.log_std) * eps
        generated = networks["generator"](torch.cat([latents, xi], dim=1)).sample
        decoded = networks["decoder"](encoded.mean).sample
        return {
            "mse_drawn": clamped_squared_error(generated, image),
            "mse_decoder": clamped_squared_error(decoded, image),
            "kl": kl_standard_normal(encoded.mean, encoded.log_std).sum(1),
        }
