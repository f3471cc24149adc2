"""Pix2Pix: a translator learnt from pairs, by a conditional GAN and the L1 distance to the target."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..blocks.translation import TranslatorNorm
from ..data import DataSpec, Layout
from ..errors import UserError
from ..losses.gan import accuracy
from ..models.patch_discriminator import PatchDiscriminator
from ..pipelines.pix2pix import Pix2PixPipeline
from .base import Batch, Noise, Phase, check_minimums, load_saved
from .translation import (
    TRANSLATORS,
    PixelLoss,
    TranslationLoss,
    TranslationObjective,
    TranslatorArguments,
    absolute_error,
    adopt_data,
    adopt_translator_options,
    build_patch_discriminator,
    build_translator,
    check_smallest,
    fooling_loss,
    in_unit_range,
    judging_loss,
    pixel_loss,
    side_by_side,
)


@dataclass
class Pix2PixArguments(TranslatorArguments):
    """Options of `train_pix2pix.py`."""

    architecture: Literal["unet", "resnet"] = field(
        default="unet", metadata={"help": "unet (pix2pix's, with skips) or resnet (CycleGAN's residual blocks)."}
    )
    norm: TranslatorNorm = field(
        default="batch", metadata={"help": "Normalisation of all networks: batch, instance or none."}
    )
    dropout: float = field(
        default=0.5, metadata={"help": "Probability of dropout inside the translator, its only noise."}
    )
    gan_loss: TranslationLoss = field(default="non_saturating", metadata={"help": "See `losses/gan.py`."})
    adversarial_weight: float = field(
        default=1.0,
        metadata={"help": "Of the adversarial loss; at 0 there is no discriminator: a plain encoder-decoder."},
    )
    reconstruction_weight: float = field(default=100.0, metadata={"help": "lambda, of the distance to the target."})
    reconstruction_loss: PixelLoss = field(default="l1", metadata={"help": "The distance to the target: l1 or mse."})

    def check(self, data: DataSpec) -> None:
        super().check(data)
        check_minimums(self, adversarial_weight=0, reconstruction_weight=0)
        if self.adversarial_weight == self.reconstruction_weight == 0:
            raise UserError("--adversarial_weight and --reconstruction_weight are both 0: there is nothing to learn")
        if self.adversarial_weight == 0:
            defaults = Pix2PixArguments()
            for name in ("gan_loss", "receptive_field", "discriminator_width", "discriminator_learning_rate"):
                if getattr(self, name) != getattr(defaults, name):
                    raise UserError(f"--{name} has no meaning with --adversarial_weight 0; leave it out")


class Pix2PixObjective(TranslationObjective):
    """G: x -> y and a discriminator of pairs (Isola et al. 2017, arXiv 1611.07004).

    G minimises cGAN + lambda L1, eq. 4; D sees the condition beside the image, eq. 1; the only noise is dropout,
    section 2.1. Batch keys: x is `conditioning_image`, y is `target_image`.

    What differs: G is updated before D, and D learns from the translations that G was updated with, as in CycleGAN;
    that spares a pass through G, where the authors update D first and keep G's pass for afterwards.
    """

    Arguments = Pix2PixArguments
    ema = ("generator",)

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: Pix2PixArguments) -> None:
        super().__init__(networks, data, args)
        self.phases: tuple[Phase, ...] = (Phase("generator", trains=("generator",)),)
        if args.adversarial_weight > 0:
            self.phases += (Phase("discriminator", trains=("discriminator",), reuse_batch=True),)

    @classmethod
    def layout(cls, args: Pix2PixArguments) -> Layout:
        return Layout("pair")

    @classmethod
    def from_args(cls, args: Pix2PixArguments, data: DataSpec) -> "Pix2PixObjective":
        args.check(data)
        assert data.other is not None  # `layout`
        networks = {"generator": build_translator(args, data, data.other)}
        if args.adversarial_weight > 0:
            networks["discriminator"] = build_patch_discriminator(args, data.channels + data.other.channels, data)
        return cls(networks, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: Pix2PixArguments, data: DataSpec) -> "Pix2PixObjective":
        assert data.other is not None  # `layout`
        networks = {"generator": load_saved(folder, "generator", TRANSLATORS)}
        if args.adversarial_weight > 0:
            networks["discriminator"] = load_saved(folder, "discriminator", (PatchDiscriminator,))
        adopt_translator_options(args, networks["generator"], networks.get("discriminator"))
        args.check(data)
        adopt_data(networks["generator"], data, data.other)
        if args.adversarial_weight > 0:
            check_smallest(args.receptive_field, data)
        return cls(networks, data, args)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        condition, target = batch["conditioning_image"], batch["target_image"]
        if phase.name == "generator":
            fake = networks["generator"](condition).sample
            losses = {"reconstruction": pixel_loss(self.args.reconstruction_loss, fake, target)}
            loss = self.args.reconstruction_weight * losses["reconstruction"]
            if self.args.adversarial_weight > 0:
                cache["fake"] = fake.detach()
                logits = networks["discriminator"](torch.cat([condition, fake.to(condition.dtype)], 1)).logits
                losses["adversarial"] = fooling_loss(self.args.gan_loss, logits)
                loss = loss + self.args.adversarial_weight * losses["adversarial"]
            return {"loss": loss, **losses}
        fake = cache.pop("fake").to(condition.dtype)
        on_real = networks["discriminator"](torch.cat([condition, target], 1)).logits
        on_fake = networks["discriminator"](torch.cat([condition, fake], 1)).logits
        kind = self.args.gan_loss
        return {
            "loss": judging_loss(kind, on_real, on_fake),
            "accuracy": accuracy(kind, on_real.detach(), on_fake.detach()),
        }

    def pipeline(self, networks: dict[str, ModelMixin]) -> Pix2PixPipeline:
        generator: Any = networks["generator"]
        return Pix2PixPipeline(generator, value_scale=self.other.value_scale, source_value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        condition, target = in_unit_range(batch["conditioning_image"]), in_unit_range(batch["target_image"])
        fake = pipeline(image=condition, output_type="pt").images.to(condition)
        return {"image, translation, target": side_by_side(condition, fake, target)}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        condition, target = batch["conditioning_image"], batch["target_image"]
        fake = networks["generator"](condition).sample
        return {"L1": absolute_error(fake, target)}
