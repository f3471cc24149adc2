"""The GAN's objective: adversarial losses, gradient penalties, class conditioning, and what steadies training."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..checks import check_choice
from ..choices import FeatureLoss, GANLossName, Penalty
from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.consensus import consensus_loss
from ..losses.gan import (
    GANLoss,
    accuracy,
    at_least_float32,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    with_smoothed_labels,
)
from ..pipelines.gan import GANPipeline
from .base import Batch, Gather, Noise, Objective, Phase, latent_samples
from .critics import GradientPenalty, check_critics
from .global_batch import mean_of_all, rows_of_all


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
    whole images from incomplete ones (AmbientGAN, Bora et al. 2018, eq. 1). With `instance_noise` both are shown with
    Gaussian noise, whose deviation falls linearly to 0 (Sonderby et al. 2017, Arjovsky & Bottou 2017).

    With a `consensus_weight` there is one phase in which both networks take their steps at once, each along the
    gradient of its loss + gamma ||v||^2 / 2 (Mescheder et al. 2017, see `losses.consensus`).
    """

    pipeline_class = GANPipeline
    ema = ("generator",)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self.generator_losses(networks, batch, noise, cache)
        if phase.name == "discriminator":
            return self.discriminator_losses(networks, batch, noise, cache)
        return self.consensus_losses(networks, batch, noise)

    def generator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The generator's loss on fakes of its own."""
        fake = self.generate(networks["generator"], batch, noise)
        if self.share_fakes:
            cache["fake"] = fake.detach()
        discriminator, labels = networks["discriminator"], self.discriminator_labels(batch)
        on_fake, on_real = discriminator(self.seen(fake, noise), **labels), None
        if self.feature_loss is not None:
            with torch.no_grad():
                on_real = discriminator(self.seen(batch["image"], noise, self.measured_data), **labels)
        return self.fooling_losses(on_fake, on_real, batch, noise)

    def fooling_losses(self, on_fake: Any, on_real: Any, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """How far the generator is from what it wants, and with "acgan" how well its samples' classes are recognised.

        Args:
            on_fake: What the discriminator says of fakes.
            on_real: What it says of data; only a `feature_loss` looks at it.
            batch: Of the labels.
            noise: Of this loss.
        """
        if self.feature_loss is None:
            losses = {"loss": generator_loss(self.gan_loss, on_fake.logits)}
        else:
            real, fake = (
                rows_of_all(at_least_float32(judged.features).flatten(1).mean(0, keepdim=True), noise)
                for judged in (on_real, on_fake)
            )
            losses = {"loss": feature_matching_loss(real, fake)}
        if getattr(on_fake, "class_logits", None) is not None:
            losses["class"] = F.cross_entropy(on_fake.class_logits.float(), batch["label"])
            losses["loss"] = losses["loss"] + self.class_weight * losses["class"]
        return losses

    def discriminator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The discriminator's loss and its penalty."""
        real, labels = batch["image"], self.discriminator_labels(batch)
        if self.share_fakes:
            fake = cache.pop("fake").to(real.dtype)
        else:
            with torch.no_grad():
                fake = self.generate(networks["generator"], batch, noise).to(real.dtype)
        real, fake = self.seen(real, noise, self.measured_data), self.seen(fake, noise)
        real, fake = self.penalty.samples(real, fake)
        discriminator = networks["discriminator"]
        on_real, on_fake = discriminator(real, **labels), discriminator(fake, **labels)
        losses = self.judging_losses(on_real, on_fake, batch)
        if self.penalty.is_on:

            def judge(sample: Tensor) -> Tensor:
                logits: Tensor = discriminator(sample, **labels).logits
                return logits

            judged = on_real.logits, real, on_fake.logits, fake
            losses["penalty"] = self.penalty(judge, *judged, noise, self.packing)
            losses["loss"] = losses["loss"] + losses["penalty"]
        return losses

    def judging_losses(self, on_real: Any, on_fake: Any, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's loss without a penalty, and the share of samples that it judges rightly."""
        if self.minibatch_kernels and len(on_real.logits) < 2:
            raise UserError(
                "minibatch_kernels compare the samples of a batch, or its packs, and there is one: use a larger "
                "--train_batch_size"
            )
        losses = {"loss": discriminator_loss(self.gan_loss, on_real.logits, on_fake.logits)}
        losses["accuracy"] = accuracy(self.gan_loss, on_real.logits.detach(), on_fake.logits.detach())
        if getattr(on_real, "class_logits", None) is not None:
            losses["class"] = F.cross_entropy(on_real.class_logits.float(), batch["label"])
            of_fakes = F.cross_entropy(on_fake.class_logits.float(), batch["label"])
            losses["loss"] = losses["loss"] + self.class_weight * (losses["class"] + of_fakes)
        return losses

    def consensus_losses(self, networks: dict[str, Any], batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Both networks' losses on the same fakes, and the length of the field of their gradients."""
        fake, labels = self.generate(networks["generator"], batch, noise), self.discriminator_labels(batch)
        real, fake = self.seen(batch["image"], noise, self.measured_data), self.seen(fake, noise)
        on_real, on_fake = (networks["discriminator"](images, **labels) for images in (real, fake))
        fooling = self.fooling_losses(on_fake, on_real, batch, noise)
        judging = self.judging_losses(on_real, on_fake, batch)
        own = {
            name: [parameter for parameter in network.parameters() if parameter.requires_grad]
            for name, network in self.networks.items()
        }
        players = [(fooling["loss"], own["generator"]), (judging["loss"], own["discriminator"])]
        assert self.consensus_weight is not None  # its phase is this one
        loss, regulariser = consensus_loss(players, self.consensus_weight, partial(mean_of_all, noise=noise))
        found = {"generator": fooling["loss"], "discriminator": judging["loss"], "consensus": regulariser}
        return {"loss": loss, **found, "accuracy": judging["accuracy"]}

    def generate(self, generator: Any, batch: Batch, noise: Noise) -> Tensor:
        """As many fakes as the batch has data, with their labels."""
        latents = noise.normal((len(batch["image"]), self.latent_dim), like=batch["image"])
        labels = {"labels": batch["label"]} if self.is_conditional else {}
        fake: Tensor = generator(latents, **labels).sample
        return fake

    def seen(self, images: Tensor, noise: Noise, measured: bool = False) -> Tensor:
        """What the discriminator is shown of images, which may be measured already."""
        if self.measurement is not None and not measured:
            images = self.measurement(images, noise)
        if self._noise_std:
            images = images + self._noise_std * noise.normal(tuple(images.shape), like=images)
        return images

    def before_step(self, step: int) -> None:
        if self.instance_noise is not None and self.instance_noise_steps is not None:
            self._noise_std = self.instance_noise * max(0.0, 1 - step / self.instance_noise_steps)

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
        feature_loss: FeatureLoss | None = None,
        label_smoothing: float = 0.0,
        instance_noise: float | None = None,
        instance_noise_steps: int | None = None,
        consensus_weight: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: z -> x.
            discriminator: x -> logit of "real". It judges as many samples together as the entry `packing` of its
                configuration says (PacGAN), and is told classes if an entry `conditioning` is neither "none" nor
                "acgan". For a `feature_loss` its output has features.
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
            feature_loss: What the generator minimises instead of its part of `gan_loss`: "feature_matching", the
                distance of the mean features of data and fakes (Salimans et al. 2016).
            label_smoothing: Share taken off the label "real" of data, see `losses.gan.with_smoothed_labels`.
            instance_noise: Standard deviation at the first step of the noise on what the discriminator is shown.
            instance_noise_steps: The step, from 0, from which there is none.
            consensus_weight: gamma of consensus optimisation; None for updates by turns.

        Raises:
            UserError: There is no such penalty, or loss, penalty and discriminator exclude each other, see
                `check_critics`; or what steadies training is impossible or excluded by the rest.
        """
        if critic_updates < 1 or (share_fakes and critic_updates > 1):
            raise UserError(f"critic_updates must be at least 1, and 1 with share_fakes, got {critic_updates}")
        super().__init__({"generator": generator, "discriminator": discriminator}, data)
        check_critics(gan_loss, gradient_penalty, discriminator, weight_clip=weight_clip)
        if feature_loss is not None:
            check_choice("feature_loss", feature_loss, get_args(FeatureLoss))
        check_instance_noise(instance_noise, instance_noise_steps)
        is_alternating = critic_updates == 1 and not share_fakes and weight_clip is None and gradient_penalty == "none"
        if consensus_weight is not None and not (consensus_weight >= 0 and is_alternating):
            raise UserError(
                f"consensus_weight {consensus_weight}: give 0 or more, without gradient_penalty, weight_clip, "
                "share_fakes and further critic_updates"
            )
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.gan_loss = with_smoothed_labels(gan_loss, label_smoothing)
        self.gradient_penalty, self.weight_clip = gradient_penalty, weight_clip
        self.feature_loss, self.consensus_weight = feature_loss, consensus_weight
        self.instance_noise, self.instance_noise_steps = instance_noise, instance_noise_steps
        self._noise_std = instance_noise or 0.0
        if instance_noise_steps is not None:
            self.schedule = (("instance_noise_steps", instance_noise_steps),)
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
        self.minibatch_kernels: int = config.get("minibatch_kernels", 0)
        self.batch_multiple = self.packing
        self.phases = self._phases(critic_updates)

    def _phases(self, critic_updates: int) -> tuple[Phase, ...]:
        double = self.penalty.is_on
        if self.consensus_weight is not None:
            return (Phase("both", trains=("generator", "discriminator"), double_backward=True),)
        if self.share_fakes:
            return (
                Phase("generator", trains=("generator",)),
                Phase("discriminator", trains=("discriminator",), reuse_batch=True, double_backward=double),
            )
        return (
            Phase("discriminator", trains=("discriminator",), updates=critic_updates, double_backward=double),
            Phase("generator", trains=("generator",), reuse_batch=True),
        )

    # pictures --------------------------------------------------------------------------------------------------------

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)


def check_instance_noise(std: float | None, steps: int | None) -> None:
    """Refuse noise that is none, or that does not end.

    Raises:
        UserError: One line that names both.
    """
    if (std is None) != (steps is None) or (std is not None and std <= 0) or (steps is not None and steps < 1):
        raise UserError(
            f"instance_noise {std} and instance_noise_steps {steps}: give both, a positive deviation and the step at "
            "which it has fallen to 0, or none of them"
        )
