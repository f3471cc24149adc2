"""The objective of generation from a few known pixels: an adversarial loss and the error at these pixels."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec, Layout
from ..errors import UserError
from ..losses.constraints import ConstraintNoise, constraint_loss, sample_mask
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..metrics.constraints import constraint_errors, satisfied_share
from ..models.dcgan import DCGANDiscriminator, DiscriminatorNorm
from ..models.pixelwise import PixelwiseArchitecture, PixelwiseGenerator
from ..pipelines.pixelwise import PixelwisePipeline
from .adversarial import AdversarialObjective, DiscriminatorRate
from .base import Batch, Noise, Phase, adopt_saved_options, check_minimums, check_positive, load_networks

NUM_RESIDUAL_BLOCKS = 4
SHOWN_MAPS, SHOWN_SAMPLES = 8, 6


@dataclass
class PixelwiseArguments(DiscriminatorRate):
    """Options of `train_pixelwise.py`."""

    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "adam_beta1": 0.5}

    architecture: PixelwiseArchitecture = field(
        default="unet_res",
        metadata={
            "help": "unet_res (encoder, residual blocks, decoder with skips), or dcgan (known pixels enter before the "
            "last layer only)."
        },
    )
    width: int = field(
        default=64, metadata={"help": "Channels of the maps next to the image; the others have multiples of it."}
    )
    latent_channels: int = field(
        default=1, metadata={"help": "Channels of the noise z, a map of a quarter of the image's height and width."}
    )
    num_residual_blocks: int | None = field(default=None, metadata={"help": "unet_res: residual blocks (4)."})
    known_pixels: float = field(default=0.005, metadata={"help": "Share of the pixels that are known."})
    conditioning: Literal["map", "cgan"] = field(
        default="map",
        metadata={
            "help": "map: the discriminator sees images alone, the error at known pixels is a loss. cgan: the "
            "discriminator sees the known pixels too, there is no other loss."
        },
    )
    constraint_weight: float | None = field(
        default=None, metadata={"help": "map: lambda, weight of the error at known pixels (1)."}
    )
    constraint_noise: ConstraintNoise = field(
        default="gaussian", metadata={"help": "map: gaussian (squared error) or laplacian (absolute error)."}
    )
    packing: int = field(default=2, metadata={"help": "m of PacGAN: samples that the discriminator judges together."})
    gan_loss: Literal["minimax", "non_saturating", "least_squares", "hinge"] = field(
        default="non_saturating", metadata={"help": "See `losses/gan.py`."}
    )
    discriminator_norm: DiscriminatorNorm = field(
        default="instance", metadata={"help": "Normalisation in the discriminator."}
    )
    discriminator_input_noise: float = field(
        default=0.1, metadata={"help": "Standard deviation of the noise added to the images that it judges."}
    )

    def check(self) -> None:
        """Compare the options with each other.

        Raises:
            UserError: An option that is impossible, or means nothing here.
        """
        check_minimums(self, width=1, latent_channels=1, packing=1, discriminator_input_noise=0)
        self.check_rates()
        check_positive(self, "known_pixels")
        if self.known_pixels > 1:
            raise UserError(f"--known_pixels is a share of the pixels, at most 1, got {self.known_pixels}")
        if self.num_residual_blocks is not None:
            if self.architecture == "dcgan":
                raise UserError("--num_residual_blocks has no meaning with --architecture dcgan; leave it out")
            check_minimums(self, num_residual_blocks=0)
        if self.conditioning == "cgan":
            for name, default in (("constraint_weight", None), ("constraint_noise", "gaussian")):
                if getattr(self, name) != default:
                    raise UserError(f"--{name} has no meaning with --conditioning cgan; leave it out")
        elif self.constraint_weight is not None:
            check_minimums(self, constraint_weight=0)

    def blocks(self) -> int:
        """Residual blocks."""
        return NUM_RESIDUAL_BLOCKS if self.num_residual_blocks is None else self.num_residual_blocks


class PixelwiseObjective(AdversarialObjective):
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

    Arguments = PixelwiseArguments
    pipeline_class = PixelwisePipeline
    ema = ("generator",)
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
    )

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: PixelwiseArguments) -> None:
        super().__init__(networks, data, args)
        self.batch_multiple = args.packing
        self.constraint_weight = 1.0 if args.constraint_weight is None else args.constraint_weight

    @classmethod
    def layout(cls, args: PixelwiseArguments) -> Layout:
        return Layout("reserved")

    @classmethod
    def from_args(cls, args: PixelwiseArguments, data: DataSpec) -> "PixelwiseObjective":
        args.check()
        if data.size is None:
            raise UserError(f"the family pixelwise needs images, but {data.name} has vectors")
        nearest = 2 ** max(3, round(math.log2(data.size)))
        if data.size != nearest:
            raise UserError(
                f"the family pixelwise needs images of 8, 16, 32, ... pixels, {data.name} has {data.size}; use "
                f"--resolution {nearest}"
            )
        generator = PixelwiseGenerator(
            data.channels, data.size, args.latent_channels, args.architecture, args.width, args.blocks()
        )
        discriminator = DCGANDiscriminator(
            judged_channels(args.conditioning, data.channels),
            data.size,
            args.width,
            norm=args.discriminator_norm,
            packing=args.packing,
        )
        return cls({"generator": generator, "discriminator": discriminator}, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: PixelwiseArguments, data: DataSpec) -> "PixelwiseObjective":
        networks = load_networks(
            folder, data, {"generator": (PixelwiseGenerator,), "discriminator": (DCGANDiscriminator,)}
        )
        adopt_saved_options(args, saved_options(**networks))
        args.check()
        return cls(networks, data, args)

    # losses ----------------------------------------------------------------------------------------------------------

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
        losses = {"loss": generator_loss(self.args.gan_loss, logits)}
        if self.args.conditioning == "map":
            losses["adversarial"] = losses["loss"]
            losses["constraint"] = constraint_loss(fake, values, mask, self.args.constraint_noise)
            losses["loss"] = losses["adversarial"] + self.constraint_weight * losses["constraint"]
        return losses

    def discriminator_losses(self, networks: dict[str, Any], batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """The discriminator's loss, and the share of packs that it judges rightly."""
        real = batch["image"]
        values, mask = self.draw_packs(batch["constraint_image"], noise)
        with torch.no_grad():
            fake = self.generate(networks["generator"], values, mask, noise).to(real.dtype)
        # in "cgan" mode an image is judged beside its own pixels, in "map" mode alone
        of_real = self.draw_constraints(real, noise) if self.args.conditioning == "cgan" else (values, mask)
        discriminator = networks["discriminator"]
        on_real = discriminator(self.judged(real, *of_real, noise)).logits
        on_fake = discriminator(self.judged(fake, values, mask, noise)).logits
        return {
            "loss": discriminator_loss(self.args.gan_loss, on_real, on_fake),
            "accuracy": accuracy(self.args.gan_loss, on_real.detach(), on_fake.detach()),
        }

    def draw_constraints(self, image: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Known pixels of images, (batch, channels, height, width), and the mask, (batch, 1, height, width)."""
        uniform = noise.uniform((len(image), 1, *image.shape[2:]), like=image)
        mask = sample_mask(uniform, self.args.known_pixels)
        return image * mask, mask

    def draw_packs(self, image: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """As `draw_constraints`; in "map" mode each pack has the known pixels of its first image."""
        if self.args.conditioning == "cgan":
            return self.draw_constraints(image, noise)
        packing = self.args.packing
        values, mask = self.draw_constraints(image[::packing], noise)
        return values.repeat_interleave(packing, dim=0), mask.repeat_interleave(packing, dim=0)

    def generate(self, generator: Any, values: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        """A sample for each map of known pixels."""
        shape = (len(values), *self.latent_shape)
        fake: Tensor = generator(values, mask, 2 * noise.uniform(shape, like=values) - 1).sample
        return fake

    def judged(self, image: Tensor, values: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        """What the discriminator sees of images: noisy, in "cgan" mode beside the known pixels and the mask."""
        std = self.args.discriminator_input_noise
        if std:
            image = image + std * noise.normal(tuple(image.shape), like=image)
        return torch.cat([image, values.to(image), mask.to(image)], 1) if self.args.conditioning == "cgan" else image

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one z."""
        generator: Any = self.networks["generator"]
        shape: tuple[int, ...] = generator.latent_shape
        return shape

    # inference -------------------------------------------------------------------------------------------------------

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """One sample for each held-out map: mean squared error and share satisfied, of images in [-1, 1]."""
        noise = Noise(generator)
        values, mask = self.draw_constraints(batch["constraint_image"], noise)
        sample = self.generate(networks["generator"], values, mask, noise)
        return {
            "constraint_mse": constraint_errors(sample, values, mask),
            "constraints_satisfied": satisfied_share(sample, values, mask),
        }

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """A row for each map: the image, its known pixels on grey, and samples."""
        image = batch["constraint_image"][:SHOWN_MAPS]
        values, mask = self.draw_constraints(image, Noise(generator))
        known = (values + 1) / 2
        options = {"num_samples": SHOWN_SAMPLES, "generator": generator, "output_type": "pt"}
        samples = pipeline(known, mask[:, 0], **options).images.to(known).unflatten(0, (len(image), SHOWN_SAMPLES))
        rows = torch.cat([(image[:, None] + 1) / 2, known[:, None], samples], 1)
        return {"image, known pixels, samples": rows.flatten(0, 1)}

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        """Samples for pixels of random values at random places."""
        network: Any = networks["generator"]
        noise, like = Noise(generator), torch.empty(0, device=network.device, dtype=network.dtype)
        image = 2 * noise.uniform((count, *self.data.shape), like=like) - 1
        values, mask = self.draw_constraints(image, noise)
        return self.generate(network, values, mask, noise)


def judged_channels(conditioning: str, channels: int) -> int:
    """Channels that the discriminator sees: of "cgan" the image, its known values and their mask."""
    return 2 * channels + 1 if conditioning == "cgan" else channels


def saved_options(generator: Any, discriminator: Any) -> dict[str, Any]:
    """The options that shape the networks, of saved ones' configurations."""
    config = generator.config
    is_unet = config.architecture == "unet_res"
    sees_image_alone = discriminator.config.in_channels == judged_channels("map", config.in_channels)
    return {
        "architecture": config.architecture,
        "width": config.width,
        "latent_channels": config.latent_channels,
        "num_residual_blocks": config.num_residual_blocks if is_unet else None,
        "conditioning": "map" if sees_image_alone else "cgan",
        "packing": discriminator.config.packing,
        "discriminator_norm": discriminator.config.norm,
    }
