"""The GAN's objective: adversarial losses, gradient penalties, class conditioning."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..choices import GANLossName, Penalty
from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.gan import GANLoss, accuracy, discriminator_loss, generator_loss
from ..pipelines.gan import GANPipeline
from .base import Batch, Gather, Noise, Objective, Phase, latent_samples
from .critics import GradientPenalty, check_critics


class GANObjective(Objective):
    """A generator against a discriminator (Goodfellow et al. 2014), with the losses and penalties of its successors.

    The discriminator goes first, `critic_updates` times on fresh fakes and data, then the generator (Goodfellow et al.
    2014, algorithm 1). With `share_fakes` the generator goes first and the discriminator learns from the fakes that
    the generator was trained on, which saves a pass through the generator. Each network is then updated at the other's
    old weights: simultaneous gradient descent, which turns away from an equilibrium where alternating steps circle
    around it (Mescheder et al. 2018).

    A generator that knows classes (`num_classes` in its configuration) gets the labels of the data that its fakes are
    compared with; so does a discriminator, unless it predicts them: "cgan" (Mirza & Osindero 2014), "projection"
    (Miyato & Koyama 2018) and "acgan" (Odena et al. 2017).

    With a `measurement` the discriminator compares measured fakes with measured data, so that the generator learns
    whole images from incomplete ones (AmbientGAN, Bora et al. 2018, eq. 1).
    """

    pipeline_class = GANPipeline
    ema = ("generator",)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self.generator_losses(networks, batch, noise, cache)
        return self.discriminator_losses(networks, batch, noise, cache)

    def generator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The generator's adversarial loss, and with "acgan" how well its samples' classes are recognised."""
        fake = self.generate(networks["generator"], batch, noise)
        if self.share_fakes:
            cache["fake"] = fake.detach()
        judged = networks["discriminator"](self.seen(fake, noise), **self.discriminator_labels(batch))
        losses = {"loss": generator_loss(self.gan_loss, judged.logits)}
        if getattr(judged, "class_logits", None) is not None:
            losses["class"] = F.cross_entropy(judged.class_logits.float(), batch["label"])
            losses["loss"] = losses["loss"] + self.class_weight * losses["class"]
        return losses

    def discriminator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The discriminator's loss, its penalty, and the share of samples that it judges rightly."""
        real, labels = batch["image"], self.discriminator_labels(batch)
        if self.share_fakes:
            fake = cache.pop("fake").to(real.dtype)
        else:
            with torch.no_grad():
                fake = self.generate(networks["generator"], batch, noise).to(real.dtype)
        real, fake = real if self.measured_data else self.seen(real, noise), self.seen(fake, noise)
        real, fake = self.penalty.samples(real, fake)
        discriminator = networks["discriminator"]
        on_real, on_fake = discriminator(real, **labels), discriminator(fake, **labels)
        losses = {"loss": discriminator_loss(self.gan_loss, on_real.logits, on_fake.logits)}
        losses["accuracy"] = accuracy(self.gan_loss, on_real.logits.detach(), on_fake.logits.detach())
        if getattr(on_real, "class_logits", None) is not None:
            losses["class"] = F.cross_entropy(on_real.class_logits.float(), batch["label"])
            of_fakes = F.cross_entropy(on_fake.class_logits.float(), batch["label"])
            losses["loss"] = losses["loss"] + self.class_weight * (losses["class"] + of_fakes)
        if self.penalty.is_on:

            def judge(sample: Tensor) -> Tensor:
                logits: Tensor = discriminator(sample, **labels).logits
                return logits

            judged = on_real.logits, real, on_fake.logits, fake
            losses["penalty"] = self.penalty(judge, *judged, noise, self.packing)
            losses["loss"] = losses["loss"] + losses["penalty"]
        return losses

    def generate(self, generator: Any, batch: Batch, noise: Noise) -> Tensor:
        """As many fakes as the batch has data, with their labels."""
        latents = noise.normal((len(batch["image"]), self.latent_dim), like=batch["image"])
        labels = {"labels": batch["label"]} if self.is_conditional else {}
        fake: Tensor = generator(latents, **labels).sample
        return fake

    def seen(self, images: Tensor, noise: Noise) -> Tensor:
        """What the discriminator is shown of images."""
        return images if self.measurement is None else self.measurement(images, noise)

    def discriminator_labels(self, batch: Batch) -> dict[str, Tensor]:
        """The labels, where the discriminator reads them."""
        return {"labels": batch["label"]} if self.discriminator_reads_labels else {}

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Gather) -> None:
        if self.weight_clip is not None and phase.name == "discriminator":
            with torch.no_grad():
                for parameter in networks["discriminator"].parameters():
                    parameter.clamp_(-self.weight_clip, self.weight_clip)

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        gan_loss: GANLossName | GANLoss = "non_saturating",
        gradient_penalty: Penalty = "none",
        gradient_penalty_weight: float | None = None,
        weight_clip: float | None = None,
        critic_updates: int = 1,
        share_fakes: bool = False,
        class_weight: float = 1.0,
        discriminator_learning_rate: float | None = None,
        measurement: Callable[[Tensor, Noise], Tensor] | None = None,
        measured_data: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            generator: z -> x.
            discriminator: x -> logit of "real". It judges as many samples together as the entry `packing` of its
                configuration says (PacGAN), and is told classes if an entry `conditioning` is neither "none" nor
                "acgan".
            data: What the training data look like.
            gan_loss: See `losses/gan.py`; a `GANLoss` of your own will do.
            gradient_penalty: See `losses/penalties.py`.
            gradient_penalty_weight: Its lambda or gamma; the paper's by default.
            weight_clip: Keep the discriminator's weights within +- this, in every update.
            critic_updates: Discriminator updates for each of the generator's; with `share_fakes` always 1.
            share_fakes: See above.
            class_weight: "acgan": weight of the classification losses.
            discriminator_learning_rate: Of the discriminator; the loop's by default.
            measurement: What the discriminator is shown of images, see `random_measurements`.
            measured_data: The data are shown as they are, measured already.

        Raises:
            UserError: There is no such penalty, or loss, penalty and discriminator exclude each other, see
                `check_critics`.
        """
        if critic_updates < 1 or (share_fakes and critic_updates > 1):
            raise UserError(f"critic_updates must be at least 1, and 1 with share_fakes, got {critic_updates}")
        super().__init__({"generator": generator, "discriminator": discriminator}, data)
        check_critics(gan_loss, gradient_penalty, discriminator, weight_clip=weight_clip)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.gan_loss, self.gradient_penalty, self.weight_clip = gan_loss, gradient_penalty, weight_clip
        self.share_fakes, self.class_weight = share_fakes, class_weight
        self.measurement, self.measured_data = measurement, measured_data
        self.penalty = GradientPenalty(gradient_penalty, gradient_penalty_weight)
        self.penalty_weight = self.penalty.weight
        config: Any = generator.config
        self.latent_dim: int = config.latent_dim
        self.is_conditional = bool(config.get("num_classes"))
        config = discriminator.config
        self.discriminator_reads_labels = config.get("conditioning", "none") not in ("none", "acgan")
        self.packing: int = config.get("packing", 1)
        self.batch_multiple = self.packing
        double = self.penalty.is_on
        if share_fakes:
            self.phases = (
                Phase("generator", trains=("generator",)),
                Phase("discriminator", trains=("discriminator",), reuse_batch=True, double_backward=double),
            )
        else:
            self.phases = (
                Phase("discriminator", trains=("discriminator",), updates=critic_updates, double_backward=double),
                Phase("generator", trains=("generator",), reuse_batch=True),
            )

    # pictures --------------------------------------------------------------------------------------------------------

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)
