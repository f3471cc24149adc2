"""Family `pixelwise`: its options, which of them go together, and how networks are built from them or found again."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..checks import check_minimums, check_positive, check_unused
from ..choices import ConstraintNoise, DiscriminatorNorm, PixelwiseArchitecture, PixelwiseConditioning
from ..data.spec import DataSpec, Layout
from ..errors import UserError
from ..sizes import SampleSize, as_sample_size, in_words
from .base import DISCRIMINATOR_RATE, TRANSLATION, Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.pixelwise import PixelwiseObjective


@dataclass
class PixelwiseArguments:
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
    conditioning: PixelwiseConditioning = field(
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
    discriminator_learning_rate: float | None = field(default=None, metadata=DISCRIMINATOR_RATE)


def layout(args: PixelwiseArguments) -> Layout:
    """Images, and others for known pixels; see `Family.layout`."""
    return Layout("reserved")


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: PixelwiseArguments, data: DataSpec) -> "PixelwiseObjective":
    """The objective with new networks; see `Family.build`."""
    from ..models.dcgan import DCGANDiscriminator
    from ..models.pixelwise import PixelwiseGenerator

    check(args)
    size = check_size(data)
    blocks = 4 if args.num_residual_blocks is None else args.num_residual_blocks
    generator = PixelwiseGenerator(
        data.channels, size, args.latent_channels, args.architecture, args.width, num_residual_blocks=blocks
    )
    discriminator = DCGANDiscriminator(
        judged_channels(args.conditioning, data.channels),
        size,
        args.width,
        norm=args.discriminator_norm,
        packing=args.packing,
    )
    return objective(args, {"generator": generator, "discriminator": discriminator}, data)


def reload(folder: Path, args: PixelwiseArguments, data: DataSpec) -> "PixelwiseObjective":
    """The objective around saved networks; see `Family.reload`."""
    networks = load_networks(
        folder, data, {"generator": ("PixelwiseGenerator",), "discriminator": ("DCGANDiscriminator",)}
    )
    adopt_saved_options(args, saved_options(**networks))
    check(args)
    return objective(args, networks, data)


def objective(args: PixelwiseArguments, networks: dict[str, Any], data: DataSpec) -> "PixelwiseObjective":
    """The objective with the options' numbers."""
    from ..objectives.pixelwise import PixelwiseObjective

    return PixelwiseObjective(
        **networks,
        data=data,
        known_pixels=args.known_pixels,
        conditioning=args.conditioning,
        constraint_weight=1.0 if args.constraint_weight is None else args.constraint_weight,
        constraint_noise=args.constraint_noise,
        gan_loss=args.gan_loss,
        discriminator_input_noise=args.discriminator_input_noise,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


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


# which options and data go together ----------------------------------------------------------------------------------


def check(args: PixelwiseArguments) -> None:
    """Compare the options with each other.

    Raises:
        UserError: An option that is impossible, or means nothing here.
    """
    check_minimums(args, width=1, latent_channels=1, packing=1, discriminator_input_noise=0)
    check_positive(args, "discriminator_learning_rate", "known_pixels")
    if args.known_pixels > 1:
        raise UserError(f"--known_pixels is a share of the pixels, at most 1, got {args.known_pixels}")
    if args.architecture == "dcgan":
        check_unused(args, "with --architecture dcgan", "num_residual_blocks")
    if args.conditioning == "cgan":
        check_unused(args, "with --conditioning cgan", "constraint_weight", "constraint_noise")
    check_minimums(args, num_residual_blocks=0, constraint_weight=0)


def check_size(data: DataSpec) -> SampleSize:
    """Height and width of the data's images.

    Raises:
        UserError: They are vectors, or not of a size that the networks can have.
    """
    if data.size is None:
        raise UserError(f"the family pixelwise needs images, but {data.name} has vectors")
    short = min(data.size)
    nearest: int = 2 ** max(3, round(math.log2(short)))
    if short != nearest:
        raise UserError(
            f"the family pixelwise needs images of 8, 16, 32, ... pixels, {data.name} has {in_words(data.size)}; use "
            f"--resolution {nearest}"
        )
    return as_sample_size(*data.size)


FAMILY = Family(
    "pixelwise",
    "Pixel-wise conditioned GAN",
    PixelwiseArguments,
    build,
    reload,
    "PixelwisePipeline",
    pipeline_tag=TRANSLATION,
    layout=layout,
)
