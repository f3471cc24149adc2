"""Pix2Pix's objective: a conditional GAN and the distance to the target."""

from typing import Any, ClassVar, get_args

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..checks import check_choice
from ..choices import GANLossName, Penalty, PixelLoss
from ..data.spec import DataSpec
from ..losses.gan import GANLoss
from ..losses.translation import absolute_error, fooling_loss, pixel_loss
from ..pipelines.pix2pix import Pix2PixPipeline
from ..pipelines.translation import TranslationPipeline
from .base import Batch, Noise, Objective, Phase
from .critics import GradientPenalty, check_critics, patch_losses, rows_are_independent
from .pictures import in_unit_range, parts_of_input, side_by_side, source_parts, value_scales


class Pix2PixObjective(Objective):
    """G: x -> y and a discriminator of pairs (Isola et al. 2017, arXiv 1611.07004).

    G minimises cGAN + lambda L1, eq. 4; D sees the condition beside the image, eq. 1; the only noise is dropout,
    section 2.1. Batch keys: x is `conditioning_image`, y is `target_image`.

    What differs: G is updated before D, and D learns from the translations that G was updated with, as in CycleGAN;
    that spares a pass through G, where the authors update D first and keep G's pass for afterwards.
    """

    pipeline_class: ClassVar[type[TranslationPipeline]] = Pix2PixPipeline
    ema = ("generator",)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self.generator_losses(networks, batch, cache)
        return self.discriminator_losses(networks, batch, noise, cache)

    def generator_losses(self, networks: dict[str, Any], batch: Batch, cache: dict[str, Any]) -> dict[str, Tensor]:
        """The distance to the target and, where there is a discriminator, the adversarial loss; caches the fakes."""
        condition, target = batch["conditioning_image"], batch["target_image"]
        fake = networks["generator"](condition).sample
        losses = {"reconstruction": pixel_loss(self.reconstruction_loss, fake, target)}
        loss = self.reconstruction_weight * losses["reconstruction"]
        if "discriminator" in networks:
            cache["fake"] = fake.detach()
            logits = networks["discriminator"](torch.cat([condition, fake.to(condition.dtype)], 1)).logits
            losses["adversarial"] = fooling_loss(self.gan_loss, logits)
            loss = loss + self.adversarial_weight * losses["adversarial"]
        return {"loss": loss, **losses}

    def discriminator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The discriminator's loss on pairs of data and on data with their translations."""
        condition, target = batch["conditioning_image"], batch["target_image"]
        fake = cache.pop("fake").to(condition.dtype)
        pairs = torch.cat([condition, target], 1), torch.cat([condition, fake], 1)
        discriminator = networks["discriminator"]
        in_one_pass = rows_are_independent(self.networks["discriminator"])
        return patch_losses(self.gan_loss, self.penalty, discriminator, *pairs, noise, in_one_pass)

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin | None,
        data: DataSpec,
        gan_loss: GANLossName | GANLoss = "non_saturating",
        adversarial_weight: float = 1.0,
        reconstruction_weight: float = 100.0,
        reconstruction_loss: PixelLoss = "l1",
        discriminator_learning_rate: float | None = None,
        gradient_penalty: Penalty = "none",
        gradient_penalty_weight: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: G, x -> y.
            discriminator: D, of x and y along the channels -> logits of "real"; None for no adversarial loss, which
                leaves a plain encoder-decoder.
            data: What x looks like, and y in `data.other`.
            gan_loss: See `losses/gan.py`; a `GANLoss` of your own will do.
            adversarial_weight: Of the adversarial loss.
            reconstruction_weight: lambda, of the distance to the target.
            reconstruction_loss: The distance to the target: "l1" or "mse".
            discriminator_learning_rate: Of the discriminator; the loop's by default.
            gradient_penalty: On the discriminator's gradient by pairs, see `losses/penalties.py`; "roth" has no
                meaning for patches.
            gradient_penalty_weight: Its lambda or gamma; the paper's by default.

        Raises:
            UserError: Loss, penalty and discriminator exclude each other, see `check_critics`.
        """
        networks = {"generator": generator}
        self.penalty = GradientPenalty(gradient_penalty, gradient_penalty_weight)
        self.phases = (Phase("generator", trains=("generator",)),)
        if discriminator is not None:
            networks["discriminator"] = discriminator
            double = self.penalty.is_on
            self.phases += (Phase("discriminator", ("discriminator",), reuse_batch=True, double_backward=double),)
        check_choice("reconstruction_loss", reconstruction_loss, get_args(PixelLoss))
        super().__init__(networks, data)
        check_critics(gan_loss, gradient_penalty, *([] if discriminator is None else [discriminator]), patches=True)
        self.gradient_penalty, self.penalty_weight = gradient_penalty, self.penalty.weight
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.gan_loss, self.adversarial_weight = gan_loss, adversarial_weight
        self.reconstruction_loss, self.reconstruction_weight = reconstruction_loss, reconstruction_weight

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> TranslationPipeline:
        return Pix2PixPipeline(networks["generator"], **value_scales(self.data), **source_parts(self.data))

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        condition, target = in_unit_range(batch["conditioning_image"]), in_unit_range(batch["target_image"])
        fake = pipeline(image=condition, output_type="pt").images.to(condition)
        return {"image, translation, target": side_by_side(*parts_of_input(condition, self.data), fake, target)}

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        fake = networks["generator"](batch["conditioning_image"]).sample
        return {"L1": absolute_error(fake, batch["target_image"])}
