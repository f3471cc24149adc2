"""The objective of generation from a few known pixels: an adversarial loss and the error at these pixels."""

from typing import Any, get_args

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..checks import check_choice
from ..choices import ConstraintNoise, GANLossName, PixelwiseConditioning
from ..data.spec import DataSpec
from ..losses.constraints import constraint_loss, sample_mask
from ..losses.gan import GANLoss, accuracy, discriminator_loss, generator_loss
from ..metrics.constraints import constraint_errors, satisfied_share
from ..pipelines.pixelwise import PixelwisePipeline
from ..plots import constraint_picture
from .base import Batch, Noise, Objective, Phase
from .critics import check_critics

SHOWN_MAPS, SHOWN_SAMPLES = 8, 6


class PixelwiseObjective(Objective):
    """min_G max_D of a GAN's loss + lambda * error at the known pixels (Ruffino et al. 2020, arXiv 2002.01281).

    "map" is the paper's: the discriminator judges images alone, as the prior of a maximum a posteriori estimate, and
    the error at the known pixels is the likelihood. "cgan" is its baseline: the discriminator sees (image, known
    pixels, mask) and there is no other loss. Masks and noise are drawn anew for each phase; the maps of known pixels
    come from images that the discriminator never sees, as in the authors' code. The discriminator goes first.

    Samples are packed (Lin et al. 2018, arXiv 1712.04086), since the rest of the loss would be content with one sample
    for each map. In "map" mode the samples of a pack share their map, as in the authors' code, and differ in z alone:
    the discriminator compares them with independent images, so that a generator that ignores z is found out. In "cgan"
    mode it would know fakes by their equal maps: there each sample has its own.

    As in the authors' code the generator minimises -log D (the thesis prints log(1 - D)), and there is noise on what
    the discriminator judges: here on images only, not on the known pixels beside them.
    """

    pipeline_class = PixelwisePipeline
    ema = ("generator",)
    higher_is_better = ("constraints_satisfied",)
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
    )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self.generator_losses(networks, batch, noise)
        return self.discriminator_losses(networks, batch, noise)

    def generator_losses(self, networks: dict[str, Any], batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """The adversarial loss, and of "map" the error at the known pixels."""
        values, mask = self.draw_packs(batch["constraint_image"], noise)
        fake = self.generate(networks["generator"], values, mask, noise)
        logits = networks["discriminator"](self.judged(fake, values, mask, noise)).logits
        losses = {"loss": generator_loss(self.gan_loss, logits)}
        if self.conditioning == "map":
            losses["adversarial"] = losses["loss"]
            losses["constraint"] = constraint_loss(fake, values, mask, self.constraint_noise, **self.noise_options)
            losses["loss"] = losses["adversarial"] + self.constraint_weight * losses["constraint"]
        return losses

    def discriminator_losses(self, networks: dict[str, Any], batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """The discriminator's loss, and the share of packs that it judges rightly."""
        real = batch["image"]
        values, mask = self.draw_packs(batch["constraint_image"], noise)
        with torch.no_grad():
            fake = self.generate(networks["generator"], values, mask, noise).to(real.dtype)
        # in "cgan" mode an image is judged beside its own pixels, in "map" mode alone
        of_real = self.draw_constraints(real, noise) if self.conditioning == "cgan" else (values, mask)
        discriminator = networks["discriminator"]
        on_real = discriminator(self.judged(real, *of_real, noise)).logits
        on_fake = discriminator(self.judged(fake, values, mask, noise)).logits
        return {
            "loss": discriminator_loss(self.gan_loss, on_real, on_fake),
            "accuracy": accuracy(self.gan_loss, on_real.detach(), on_fake.detach()),
        }

    def draw_constraints(self, image: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Known pixels of images, (batch, channels, height, width), and the mask, (batch, 1, height, width)."""
        mask = sample_mask(noise.uniform((len(image), 1, *image.shape[2:]), like=image), self.known_pixels)
        return image * mask, mask

    def draw_packs(self, image: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """As `draw_constraints`; in "map" mode each pack has the known pixels of its first image."""
        if self.conditioning == "cgan":
            return self.draw_constraints(image, noise)
        values, mask = self.draw_constraints(image[:: self.packing], noise)
        return values.repeat_interleave(self.packing, dim=0), mask.repeat_interleave(self.packing, dim=0)

    def generate(self, generator: Any, values: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        """A sample for each map of known pixels."""
        shape = (len(values), *self.latent_shape)
        fake: Tensor = generator(values, mask, 2 * noise.uniform(shape, like=values) - 1).sample
        return fake

    def judged(self, image: Tensor, values: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        """What the discriminator sees of images: noisy, in "cgan" mode beside the known pixels and the mask."""
        std = self.discriminator_input_noise
        if std:
            image = image + std * noise.normal(tuple(image.shape), like=image)
        return torch.cat([image, values.to(image), mask.to(image)], 1) if self.conditioning == "cgan" else image

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        known_pixels: float = 0.005,
        conditioning: PixelwiseConditioning = "map",
        constraint_weight: float = 1.0,
        constraint_noise: ConstraintNoise = "gaussian",
        constraint_peak: float = 255.0,
        constraint_concentration: float = 100.0,
        gan_loss: GANLossName | GANLoss = "non_saturating",
        discriminator_input_noise: float = 0.1,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: y, M, z -> x: of known values, their mask and noise, see `PixelwiseGenerator`.
            discriminator: x -> logit of "real"; of "cgan" (x, y, M) -> logit, one beside the other as channels. It
                judges as many samples together as the entry `packing` of its configuration says.
            data: What the training data look like.
            known_pixels: Share of the pixels that are known.
            conditioning: "map" or "cgan".
            constraint_weight: "map": lambda, weight of the error at known pixels.
            constraint_noise: "map": "gaussian" (squared error), "laplacian" (absolute error), "poisson" or "beta", see
                `losses/constraints.py`.
            constraint_peak: Counts of a white pixel, of "poisson".
            constraint_concentration: Of "beta".
            gan_loss: See `losses/gan.py`; a `GANLoss` of your own will do.
            discriminator_input_noise: Standard deviation of the noise added to the images that it judges.
            discriminator_learning_rate: Of the discriminator; the loop's by default.

        Raises:
            UserError: There is no such conditioning or loss, or the loss excludes the discriminator, see
                `check_critics`.
        """
        check_choice("conditioning", conditioning, get_args(PixelwiseConditioning))
        super().__init__({"generator": generator, "discriminator": discriminator}, data)
        check_critics(gan_loss, "none", discriminator)
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.known_pixels, self.conditioning, self.gan_loss = known_pixels, conditioning, gan_loss
        self.constraint_weight, self.constraint_noise = constraint_weight, constraint_noise
        self.noise_options = {"peak": constraint_peak, "concentration": constraint_concentration}
        self.discriminator_input_noise = discriminator_input_noise
        self.latent_shape: tuple[int, ...] = generator.latent_shape
        self.packing: int = discriminator.config.get("packing", 1)
        self.batch_multiple = self.packing

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """A row for each map: the image, its known pixels on grey, and samples; below, what the samples keep of them.

        There a row begins with the pixels that any sample keeps, and those that all of them do.
        """
        image = batch["constraint_image"][:SHOWN_MAPS]
        values, mask = self.draw_constraints(image, Noise.seeded_by(generator))
        known = (values + 1) / 2
        options = {"num_samples": SHOWN_SAMPLES, "generator": generator, "output_type": "pt"}
        output = pipeline(known, mask[:, 0], **options)
        samples, kept = (
            each.unflatten(0, (len(image), SHOWN_SAMPLES)) for each in (output.images.to(known), output.constraint_map)
        )
        rows = torch.cat([(image[:, None] + 1) / 2, known[:, None], samples], 1)
        kept = torch.cat([kept.amax(1, keepdim=True), kept.amin(1, keepdim=True), kept], 1)
        return {
            "image, known pixels, samples": rows.flatten(0, 1),
            "known pixels kept (green) or missed (red): by any sample, by all, by each": constraint_picture(
                kept.flatten(0, 1)
            ),
        }

    def watched_samples(self, networks: dict[str, Any], count: int, generator: torch.Generator) -> Tensor:
        """Samples for pixels of random values at random places."""
        network = networks["generator"]
        noise, like = Noise.seeded_by(generator), torch.empty(0, device=network.device, dtype=network.dtype)
        image = 2 * noise.uniform((count, *self.data.shape), like=like) - 1
        values, mask = self.draw_constraints(image, noise)
        return self.generate(network, values, mask, noise)

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """One sample for each held-out map: mean squared error and share satisfied, of images in [-1, 1]."""
        noise, image = Noise.seeded_by(generator), batch["constraint_image"]
        if not len(image):
            return {}
        values, mask = self.draw_constraints(image, noise)
        sample = self.generate(networks["generator"], values, mask, noise)
        return {
            "constraint_mse": constraint_errors(sample, values, mask),
            "constraints_satisfied": satisfied_share(sample, values, mask),
        }
