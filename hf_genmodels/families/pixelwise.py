"""Family `pixelwise`: its options, which of them go together, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..checks import check_minimums, check_multiple, check_positive, check_unused
from ..choices import ConstraintNoise, DiscriminatorNorm, PixelwiseArchitecture, PixelwiseConditioning
from ..data.spec import DataSpec, Layout
from ..errors import UserError
from ..sizes import SampleSize, as_sample_size, height_width, in_words
from .base import DISCRIMINATOR_RATE, TRANSLATION, Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.pixelwise import PixelwiseObjective

WITH_BLOCKS, OF_TWO_HALVINGS = ("unet_res", "unet", "res"), ("dcgan", "unet_res")


@dataclass
class PixelwiseArguments:
    """Options of `train_pixelwise.py`."""

    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "adam_beta1": 0.5}

    architecture: PixelwiseArchitecture = field(
        default="unet_res",
        metadata={
            "help": "unet_res (encoder, residual blocks, decoder with skips), dcgan (known pixels enter before the "
            "last layer only), up_dil (dilated convolutions), up_encdec (an encoder and decoder behind z's layers), "
            "unet, or res (no skips)."
        },
    )
    width: int = field(
        default=64, metadata={"help": "Channels of the maps next to the image; the others have multiples of it."}
    )
    latent_channels: int = field(
        default=1,
        metadata={"help": "Channels of the noise z, a map of the image's height and width after --num_halvings."},
    )
    num_halvings: int | None = field(
        default=None,
        metadata={"help": "up_dil, up_encdec, unet, res: halvings from the image to z (2; 3 in the thesis' tables)."},
    )
    num_residual_blocks: int | None = field(
        default=None, metadata={"help": "Residual blocks (unet_res: 4, res: 6, unet: 0)."}
    )
    known_pixels: float = field(default=0.005, metadata={"help": "Share of the pixels that are known."})
    conditioning: PixelwiseConditioning = field(
        default="map",
        metadata={
            "help": "map: the discriminator sees images alone, the error at known pixels is a loss. cgan: the "
            "discriminator sees the known pixels too, there is no other loss."
        },
    )
    constraint_weight: float | None = field(
        default=None,
        metadata={
            "help": "map: lambda, weight of the error at known pixels (1); poisson and beta have theirs in nats."
        },
    )
    constraint_noise: ConstraintNoise = field(
        default="gaussian",
        metadata={
            "help": "map: noise of the known pixels. gaussian (squared error), laplacian (absolute error), poisson "
            "(counts) or beta (shares)."
        },
    )
    constraint_peak: float | None = field(default=None, metadata={"help": "poisson: counts of a white pixel (255)."})
    constraint_concentration: float | None = field(
        default=None, metadata={"help": "beta: concentration; the variance is mean (1 - mean) / (1 + it) (100)."}
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
    size = check_size(args, data)
    generator = PixelwiseGenerator(
        data.channels,
        size,
        args.latent_channels,
        args.architecture,
        args.width,
        num_residual_blocks=residual_blocks(args),
        num_halvings=2 if args.num_halvings is None else args.num_halvings,
    )
    discriminator = DCGANDiscriminator(
        judged_channels(args.conditioning, data.channels),
        size,
        args.width,
        strides=discriminator_strides(size),
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
        constraint_peak=255.0 if args.constraint_peak is None else args.constraint_peak,
        constraint_concentration=100.0 if args.constraint_concentration is None else args.constraint_concentration,
        gan_loss=args.gan_loss,
        discriminator_input_noise=args.discriminator_input_noise,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


def residual_blocks(args: PixelwiseArguments) -> int:
    """Residual blocks of the generator; the thesis' numbers where the option is left out."""
    defaults = {"unet_res": 4, "res": 6}
    return defaults.get(args.architecture, 0) if args.num_residual_blocks is None else args.num_residual_blocks


def discriminator_strides(size: SampleSize) -> tuple[int, ...] | None:
    """Of the discriminator's convolutions; None, its own rule, where that can halve both sides down to 4 pixels."""
    from ..blocks.adversarial import most_halvings

    short, long = sorted(height_width(size))
    has_own_rule = short & (short - 1) == 0 and long % (short // 4) == 0
    return None if has_own_rule else (2,) * most_halvings(size)


def judged_channels(conditioning: str, channels: int) -> int:
    """Channels that the discriminator sees: of "cgan" the image, its known values and their mask."""
    return 2 * channels + 1 if conditioning == "cgan" else channels


def saved_options(generator: Any, discriminator: Any) -> dict[str, Any]:
    """The options that shape the networks, of saved ones' configurations."""
    config = generator.config
    has_blocks = config.architecture in WITH_BLOCKS
    sees_image_alone = discriminator.config.in_channels == judged_channels("map", config.in_channels)
    return {
        "architecture": config.architecture,
        "width": config.width,
        "latent_channels": config.latent_channels,
        "num_residual_blocks": config.num_residual_blocks if has_blocks else None,
        "num_halvings": config.num_halvings if config.architecture not in OF_TWO_HALVINGS else None,
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
    check_positive(args, "discriminator_learning_rate", "known_pixels", "constraint_peak", "constraint_concentration")
    if args.known_pixels > 1:
        raise UserError(f"--known_pixels is a share of the pixels, at most 1, got {args.known_pixels}")
    if args.architecture not in WITH_BLOCKS:
        check_unused(args, f"with --architecture {args.architecture}", "num_residual_blocks")
    if args.architecture in OF_TWO_HALVINGS:
        check_unused(args, f"with --architecture {args.architecture}", "num_halvings")
    if args.conditioning == "cgan":
        check_unused(args, "with --conditioning cgan", "constraint_weight", "constraint_noise")
    for noise, option in (("poisson", "constraint_peak"), ("beta", "constraint_concentration")):
        if args.constraint_noise != noise:
            check_unused(args, f"without --constraint_noise {noise}", option)
    check_minimums(args, num_residual_blocks=0, num_halvings=2, constraint_weight=0)


def check_size(args: PixelwiseArguments, data: DataSpec) -> SampleSize:
    """Height and width of the data's images.

    Raises:
        UserError: They are vectors, or not of a size that the networks can have.
    """
    if data.size is None:
        raise UserError(f"the family pixelwise needs images, but {data.name} has vectors")
    multiple: int = 2 ** (2 if args.num_halvings is None else args.num_halvings)
    check_multiple("the family pixelwise", data.size, multiple, data.name)
    if min(data.size) < 2 * multiple:
        raise UserError(
            f"the family pixelwise needs images of at least {2 * multiple} pixels, {data.name} has "
            f"{in_words(data.size)}; use --resolution {2 * multiple}"
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
