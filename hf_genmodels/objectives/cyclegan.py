"""CycleGAN's objective: two adversarial losses and the reconstructions of two cycles."""

from typing import Any, ClassVar, get_args

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..checks import check_choice
from ..choices import GANLossName, Penalty, PixelLoss
from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.gan import GANLoss
from ..losses.translation import absolute_error, fooling_loss, pixel_loss
from ..pipelines.cyclegan import CycleGANPipeline
from ..pipelines.translation import TranslationPipeline
from .base import Batch, Noise, Objective, Phase
from .critics import GradientPenalty, check_critics, patch_losses, rows_are_independent
from .image_pool import ImagePool
from .pictures import in_unit_range, side_by_side, value_scales

TRANSLATOR_NAMES = ("generator_ab", "generator_ba")
DISCRIMINATOR_NAMES = ("discriminator_a", "discriminator_b")


class CycleGANObjective(Objective):
    """G_AB, G_BA and a discriminator for each domain (Zhu et al. 2017, arXiv 1703.10593).

    The translators minimise, together, least-squares adversarial losses + lambda (|G_BA(G_AB(a)) - a| +
    |G_AB(G_BA(b)) - b|), eq. 3, and with `identity_weight` |G_AB(b) - b| + |G_BA(a) - a| (section 5.2: 0.5 lambda).
    The discriminators learn from earlier fakes as well, see `ImagePool`. With `reconstruction_loss="mse"`,
    `cycle_weight=1` and `gan_loss="non_saturating"` the losses are DiscoGAN's (Kim et al. 2017, arXiv 1703.05192).

    In the paper's symbols G is G_AB, F is G_BA, D_X is `discriminator_a`, D_Y is `discriminator_b`. Batch keys:
    `image_a`, `image_b`.
    """

    pipeline_class: ClassVar[type[TranslationPipeline]] = CycleGANPipeline
    ema = TRANSLATOR_NAMES
    # whether `as_a` and `as_b` change an image's channels
    identity_adapts: ClassVar[bool] = False

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generators":
            return self.generator_losses(networks, batch, cache)
        return self.discriminator_losses(networks, batch, noise, cache)

    def generator_losses(self, networks: dict[str, Any], batch: Batch, cache: dict[str, Any]) -> dict[str, Tensor]:
        """Both translators' losses; the fakes stay in the cache."""
        a, b = batch["image_a"], batch["image_b"]
        images = self.translations(networks["generator_ab"], networks["generator_ba"], a, b)
        fake_a, fake_b = images["fake_a"], images["fake_b"]
        cache["fake_a"], cache["fake_b"] = fake_a.detach(), fake_b.detach()
        losses = {
            "adversarial_a": fooling_loss(self.gan_loss, networks["discriminator_a"](fake_a).logits),
            "adversarial_b": fooling_loss(self.gan_loss, networks["discriminator_b"](self.shown(fake_b)).logits),
            "cycle_a": pixel_loss(self.reconstruction_loss, images["cycle_a"], a),
            "cycle_b": pixel_loss(self.reconstruction_loss, images["cycle_b"], b),
        }
        loss = losses["adversarial_a"] + losses["adversarial_b"]
        loss = loss + self.cycle_weight * (losses["cycle_a"] + losses["cycle_b"])
        if self.identity_weight > 0:
            losses["identity_a"] = pixel_loss(self.reconstruction_loss, images["identity_a"], a)
            losses["identity_b"] = self.distance_b(images["identity_b"], b)
            loss = loss + self.identity_weight * (losses["identity_a"] + losses["identity_b"])
        more = self.translation_losses(images["raw_b"], fake_b, batch)
        return {"loss": loss + sum(weight * value for weight, value in more.values()), **losses} | {
            name: value for name, (_, value) in more.items()
        }

    def translations(self, to_b: Any, to_a: Any, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """Fakes, images after a cycle and, where their loss counts, images translated to their own domain.

        Translators that take a row alike in every batch make them in three passes instead of six (or four).
        """
        wants_identity = self.identity_weight > 0
        own_a, own_b = ([self.as_b(a)], [self.as_a(b)]) if wants_identity else ([], [])
        if rows_are_independent(*(self.networks[name] for name in TRANSLATOR_NAMES)):
            raw_b, *identity_b = in_one_pass(to_b, a, *own_b)
            fake_b = self.finished(raw_b)
            fake_a, cycle_a, *identity_a = in_one_pass(to_a, b, fake_b, *own_a)
            cycle_b = to_b(fake_a).sample
        else:
            raw_b, fake_a = to_b(a).sample, to_a(b).sample
            fake_b = self.finished(raw_b)
            cycle_a, cycle_b = to_a(fake_b).sample, to_b(fake_a).sample
            identity_a, identity_b = [to_a(own).sample for own in own_a], [to_b(own).sample for own in own_b]
        images = {"raw_b": raw_b, "fake_a": fake_a, "fake_b": fake_b, "cycle_a": cycle_a}
        images["cycle_b"] = self.finished(cycle_b)
        if wants_identity:
            images |= {"identity_a": identity_a[0], "identity_b": self.finished(identity_b[0])}
        return images

    # what a family of domains that are not alike can change ----------------------------------------------------------

    def as_a(self, image: Tensor) -> Tensor:
        """An image of domain B as `generator_ab` is given it for the identity loss."""
        return image

    def as_b(self, image: Tensor) -> Tensor:
        """An image of domain A as `generator_ba` is given it for the identity loss."""
        return image

    def finished(self, translation: Tensor) -> Tensor:
        """What `generator_ab` made, as the discriminator, the cycle and the user get it."""
        return translation

    def shown(self, image: Tensor) -> Tensor:
        """An image of domain B, data or translation, as its discriminator sees it."""
        return image

    def distance_b(self, image: Tensor, target: Tensor) -> Tensor:
        """How far a translation to domain B is from the image it should be; a scalar."""
        return pixel_loss(self.reconstruction_loss, image, target)

    def translation_losses(self, raw: Tensor, fake_b: Tensor, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Further losses of the translations to domain B, before and after `finished`, by name: weight and value."""
        return {}

    def discriminator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Both discriminators' losses, on data and on fakes from the pools."""
        losses: dict[str, Tensor] = {}
        judges_in_one_pass = rows_are_independent(*(self.networks[name] for name in DISCRIMINATOR_NAMES))
        for domain in ("a", "b"):
            real = batch[f"image_{domain}"]
            fresh = cache.pop(f"fake_{domain}").to(real.dtype)
            draws = noise.uniform((len(fresh), 2), like=real)
            fake = self.pools[domain].exchange(fresh, noise.share, draws)
            discriminator = networks[f"discriminator_{domain}"]
            if domain == "b":
                real, fake = self.shown(real), self.shown(fake)
            judged = patch_losses(self.gan_loss, self.penalty, discriminator, real, fake, noise, judges_in_one_pass)
            losses |= {f"{name}_{domain}": value for name, value in judged.items()}
        return {"loss": losses["loss_a"] + losses["loss_b"], **losses}

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator_ab: ModelMixin,
        generator_ba: ModelMixin,
        discriminator_a: ModelMixin,
        discriminator_b: ModelMixin,
        data: DataSpec,
        gan_loss: GANLossName | GANLoss = "least_squares",
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        reconstruction_loss: PixelLoss = "l1",
        pool_size: int = 50,
        discriminator_learning_rate: float | None = None,
        gradient_penalty: Penalty = "none",
        gradient_penalty_weight: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator_ab: From domain A to domain B.
            generator_ba: Back.
            discriminator_a: Image of domain A -> logits of "real".
            discriminator_b: The same of domain B.
            data: What the images of domain A look like, and those of domain B in `data.other`.
            gan_loss: See `losses/gan.py`; a `GANLoss` of your own will do.
            cycle_weight: lambda, of the two cycles' reconstruction losses.
            identity_weight: Of the loss between a translator's output for an image of its target domain and that
                image; above 0 both domains must have as many channels.
            reconstruction_loss: Distance of cycle and identity losses: "l1" (CycleGAN) or "mse" (DiscoGAN).
            pool_size: Earlier fakes, of each row of a batch, that the discriminators see; 0 for none.
            discriminator_learning_rate: Of the discriminators; the loop's by default.
            gradient_penalty: On the discriminators' gradients, see `losses/penalties.py`; "roth" has no meaning for
                patches.
            gradient_penalty_weight: Its lambda or gamma; the paper's by default.

        Raises:
            UserError: Loss, penalty and discriminators exclude each other, see `check_critics`; or domains of
                different channels with `identity_weight`.
        """
        translators = dict(zip(TRANSLATOR_NAMES, (generator_ab, generator_ba), strict=True))
        discriminators = dict(zip(DISCRIMINATOR_NAMES, (discriminator_a, discriminator_b), strict=True))
        check_choice("reconstruction_loss", reconstruction_loss, get_args(PixelLoss))
        if identity_weight > 0 and not self.identity_adapts and data.other and data.channels != data.other.channels:
            raise UserError(
                f"identity_weight needs domains of as many channels, but A has {data.channels} and B has "
                f"{data.other.channels}"
            )
        super().__init__(translators | discriminators, data)
        check_critics(gan_loss, gradient_penalty, discriminator_a, discriminator_b, patches=True)
        self.penalty = GradientPenalty(gradient_penalty, gradient_penalty_weight)
        self.gradient_penalty, self.penalty_weight = gradient_penalty, self.penalty.weight
        self.phases = (
            Phase("generators", TRANSLATOR_NAMES),
            Phase("discriminators", DISCRIMINATOR_NAMES, reuse_batch=True, double_backward=self.penalty.is_on),
        )
        self.learning_rates |= dict.fromkeys(DISCRIMINATOR_NAMES, discriminator_learning_rate)
        self.gan_loss, self.reconstruction_loss = gan_loss, reconstruction_loss
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.pool_size = pool_size
        self.pools = {"a": ImagePool(pool_size), "b": ImagePool(pool_size)}

    def state_dict(self) -> dict[str, Any]:
        return {domain: pool.state_dict() for domain, pool in self.pools.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for domain, pool in self.pools.items():
            pool.load_state_dict(state[domain])

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> TranslationPipeline:
        return CycleGANPipeline(networks["generator_ab"], networks["generator_ba"], **value_scales(self.data))

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = {}
        for domain, direction, back in (("a", "a_to_b", "b_to_a"), ("b", "b_to_a", "a_to_b")):
            image = in_unit_range(batch[f"image_{domain}"])
            there = pipeline(image=image, direction=direction, output_type="pt").images.to(image)
            again = pipeline(image=there, direction=back, output_type="pt").images.to(image)
            pictures[f"{domain}, translation, cycle"] = side_by_side(image, there, again)
        return pictures

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        to_b, to_a = networks["generator_ab"], networks["generator_ba"]
        a, b = batch["image_a"], batch["image_b"]
        figures: dict[str, Tensor] = {}
        if len(a):
            fake_b = self.finished(to_b(a).sample)
            figures["cycle L1 of A"] = absolute_error(to_a(fake_b).sample, a)
            figures |= self.translation_figures(fake_b, batch)
        if len(b):
            figures["cycle L1 of B"] = absolute_error(self.finished(to_b(to_a(b).sample).sample), b)
        return figures

    def translation_figures(self, fake_b: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Further held-out figures of the translations to domain B."""
        return {}


def in_one_pass(translator: Any, *images: Tensor) -> tuple[Tensor, ...]:
    """Translations of several batches, made as one."""
    translations: tuple[Tensor, ...] = translator(torch.cat(images)).sample.split([len(image) for image in images])
    return translations
