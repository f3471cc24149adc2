"""CycleGAN: two translators learnt from two sets of images that do not belong together."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec, Layout
from ..errors import UserError
from ..losses.gan import accuracy
from ..models.patch_discriminator import PatchDiscriminator
from ..pipelines.cyclegan import CycleGANPipeline
from .base import Batch, Noise, Phase, check_minimums, load_saved
from .image_pool import ImagePool
from .translation import (
    TRANSLATORS,
    PixelLoss,
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

TRANSLATOR_NAMES = ("generator_ab", "generator_ba")
DISCRIMINATOR_NAMES = ("discriminator_a", "discriminator_b")


@dataclass
class CycleGANArguments(TranslatorArguments):
    """Options of `train_cyclegan.py`."""

    cycle_weight: float = field(default=10.0, metadata={"help": "lambda, of the two cycles' reconstruction losses."})
    identity_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the loss between a translator's output for an image of its target domain and that image."
        },
    )
    reconstruction_loss: PixelLoss = field(
        default="l1", metadata={"help": "Distance of cycle and identity losses: l1 (CycleGAN) or mse (DiscoGAN)."}
    )
    pool_size: int = field(
        default=50, metadata={"help": "Earlier fakes, of each row of a batch, that the discriminators see; 0: none."}
    )

    def check(self, data: DataSpec) -> None:
        super().check(data)
        check_minimums(self, cycle_weight=0, identity_weight=0, pool_size=0)
        assert data.other is not None  # `Objective.layout`
        if self.identity_weight > 0 and data.channels != data.other.channels:
            raise UserError(
                f"--identity_weight needs domains of as many channels, but A has {data.channels} and B has "
                f"{data.other.channels}; leave it out"
            )
        if data.size != data.other.size:
            raise UserError(
                f"the images of domain A are {data.size} pixels wide, those of B {data.other.size}; give --resolution"
            )


class CycleGANObjective(TranslationObjective):
    """G_AB, G_BA and a discriminator for each domain (Zhu et al. 2017, arXiv 1703.10593).

    The translators minimise, together, least-squares adversarial losses + lambda (|G_BA(G_AB(a)) - a| +
    |G_AB(G_BA(b)) - b|), eq. 3, and with `identity_weight` |G_AB(b) - b| + |G_BA(a) - a| (section 5.2: 0.5 lambda).
    The discriminators learn from earlier fakes as well, see `ImagePool`. With `--reconstruction_loss mse
    --cycle_weight 1 --gan_loss non_saturating` it is DiscoGAN (Kim et al. 2017, arXiv 1703.05192), in these networks.

    In the paper's symbols G is G_AB, F is G_BA, D_X is `discriminator_a`, D_Y is `discriminator_b`. Batch keys:
    `image_a`, `image_b`.
    """

    Arguments: ClassVar[type] = CycleGANArguments
    ema = TRANSLATOR_NAMES
    phases = (
        Phase("generators", trains=TRANSLATOR_NAMES),
        Phase("discriminators", trains=DISCRIMINATOR_NAMES, reuse_batch=True),
    )

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: CycleGANArguments) -> None:
        super().__init__(networks, data, args)
        self.pools = {"a": ImagePool(args.pool_size), "b": ImagePool(args.pool_size)}

    @classmethod
    def layout(cls, args: CycleGANArguments) -> Layout:
        return Layout("domains")

    @classmethod
    def from_args(cls, args: CycleGANArguments, data: DataSpec) -> "CycleGANObjective":
        args.check(data)
        assert data.other is not None  # `layout`
        networks = {
            "generator_ab": build_translator(args, data, data.other),
            "generator_ba": build_translator(args, data.other, data),
            "discriminator_a": build_patch_discriminator(args, data.channels, data),
            "discriminator_b": build_patch_discriminator(args, data.other.channels, data.other),
        }
        return cls(networks, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: CycleGANArguments, data: DataSpec) -> "CycleGANObjective":
        assert data.other is not None  # `layout`
        networks = {name: load_saved(folder, name, TRANSLATORS) for name in TRANSLATOR_NAMES}
        networks |= {name: load_saved(folder, name, (PatchDiscriminator,)) for name in DISCRIMINATOR_NAMES}
        adopt_translator_options(args, networks["generator_ab"], networks["discriminator_a"])
        args.check(data)
        adopt_data(networks["generator_ab"], data, data.other)
        adopt_data(networks["generator_ba"], data.other, data)
        check_smallest(args.receptive_field, data)
        return cls(networks, data, args)

    # losses ----------------------------------------------------------------------------------------------------------

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generators":
            return self.generator_losses(networks, batch, cache)
        return self.discriminator_losses(networks, batch, noise, cache)

    def generator_losses(self, networks: dict[str, Any], batch: Batch, cache: dict[str, Any]) -> dict[str, Tensor]:
        """Both translators' losses; the fakes stay in the cache."""
        a, b = batch["image_a"], batch["image_b"]
        to_b, to_a = networks["generator_ab"], networks["generator_ba"]
        fake_b, fake_a = to_b(a).sample, to_a(b).sample
        cache["fake_a"], cache["fake_b"] = fake_a.detach(), fake_b.detach()
        kind, distance = self.args.gan_loss, self.args.reconstruction_loss
        losses = {
            "adversarial_a": fooling_loss(kind, networks["discriminator_a"](fake_a).logits),
            "adversarial_b": fooling_loss(kind, networks["discriminator_b"](fake_b).logits),
            "cycle_a": pixel_loss(distance, to_a(fake_b).sample, a),
            "cycle_b": pixel_loss(distance, to_b(fake_a).sample, b),
        }
        loss = losses["adversarial_a"] + losses["adversarial_b"]
        loss = loss + self.args.cycle_weight * (losses["cycle_a"] + losses["cycle_b"])
        if self.args.identity_weight > 0:
            losses["identity_a"] = pixel_loss(distance, to_a(a).sample, a)
            losses["identity_b"] = pixel_loss(distance, to_b(b).sample, b)
            loss = loss + self.args.identity_weight * (losses["identity_a"] + losses["identity_b"])
        more = self.translation_losses(fake_b, batch)
        return {"loss": loss + sum(weight * value for weight, value in more.values()), **losses} | {
            name: value for name, (_, value) in more.items()
        }

    def translation_losses(self, fake_b: Tensor, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Further losses of the translations to domain B, by name: weight and value."""
        return {}

    def discriminator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Both discriminators' losses, on data and on fakes from the pools."""
        kind = self.args.gan_loss
        losses: dict[str, Tensor] = {}
        for domain in ("a", "b"):
            real = batch[f"image_{domain}"]
            fresh = cache.pop(f"fake_{domain}").to(real.dtype)
            draws = noise.uniform((len(fresh), 2), like=real)
            fake = self.pools[domain].exchange(fresh, noise.share, draws)
            discriminator = networks[f"discriminator_{domain}"]
            on_real, on_fake = discriminator(real).logits, discriminator(fake).logits
            losses[f"loss_{domain}"] = judging_loss(kind, on_real, on_fake)
            losses[f"accuracy_{domain}"] = accuracy(kind, on_real.detach(), on_fake.detach())
        return {"loss": losses["loss_a"] + losses["loss_b"], **losses}

    def state_dict(self) -> dict[str, Any]:
        return {domain: pool.state_dict() for domain, pool in self.pools.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for domain, pool in self.pools.items():
            pool.load_state_dict(state[domain])

    # inference -------------------------------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> Any:
        to_b: Any = networks["generator_ab"]
        to_a: Any = networks["generator_ba"]
        return CycleGANPipeline(
            to_b, to_a, value_scale=self.other.value_scale, source_value_scale=self.data.value_scale
        )

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = {}
        for domain, direction, back in (("a", "a_to_b", "b_to_a"), ("b", "b_to_a", "a_to_b")):
            image = in_unit_range(batch[f"image_{domain}"])
            there = pipeline(image=image, direction=direction, output_type="pt").images.to(image)
            again = pipeline(image=there, direction=back, output_type="pt").images.to(image)
            pictures[f"{domain}, translation, cycle"] = side_by_side(image, there, again)
        return pictures

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        to_b: Any = networks["generator_ab"]
        to_a: Any = networks["generator_ba"]
        a, b = batch["image_a"], batch["image_b"]
        fake_b = to_b(a).sample
        return {
            "cycle L1 of A": absolute_error(to_a(fake_b).sample, a),
            "cycle L1 of B": absolute_error(to_b(to_a(b).sample).sample, b),
            **self.translation_figures(fake_b, batch),
        }

    def translation_figures(self, fake_b: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Further held-out figures of the translations to domain B."""
        return {}
