"""The networks of adversarial families by architecture, built from options, and options read back from saved ones."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..checks import check_minimums, check_positive, check_unused, check_widths
from ..choices import NormStatistics
from ..data.spec import DataSpec
from ..errors import UserError
from ..sizes import height_width
from .base import DISCRIMINATOR_RATE

if TYPE_CHECKING:
    from diffusers import ModelMixin


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        generator: Public name of the generator's or decoder's class.
        discriminator: Of the discriminator's.
        encoder: Of the encoder's, None if there is none.
        norms: Normalisations of the discriminator; the first one is what it has if none is asked for.
        conditionings: How classes are used -> how the generator and the discriminator are told them.
        packs: Whether the discriminator can judge samples in packs, without classes or with "cgan".
    """

    generator: str
    discriminator: str
    encoder: str | None
    norms: tuple[str, ...]
    conditionings: dict[str, tuple[str, str]]
    packs: bool


CONVOLUTIONAL: dict[str, Any] = {
    "generator": "DCGANGenerator",
    "discriminator": "DCGANDiscriminator",
    "encoder": "DCGANEncoder",
    "norms": ("batch", "instance", "layer", "none", "spectral"),
    "conditionings": {
        "cgan": ("concat", "concat"),
        "acgan": ("concat", "acgan"),
        "projection": ("batch_norm", "projection"),
    },
    "packs": True,
}
ARCHITECTURES: dict[str, Architecture] = {
    "dcgan": Architecture(**CONVOLUTIONAL),
    "avae": Architecture(**CONVOLUTIONAL),
    "sngan": Architecture(
        generator="SNGANGenerator",
        discriminator="SNGANDiscriminator",
        encoder=None,
        norms=("spectral", "none"),
        conditionings={"acgan": ("batch_norm", "acgan"), "projection": ("batch_norm", "projection")},
        packs=False,
    ),
    "mlp": Architecture(
        generator="MLPGenerator",
        discriminator="MLPDiscriminator",
        encoder="MLPEncoder",
        norms=("none",),
        conditionings={"cgan": ("concat", "concat")},
        packs=True,
    ),
}
GENERATORS = tuple(dict.fromkeys(row.generator for row in ARCHITECTURES.values()))
DISCRIMINATORS = tuple(dict.fromkeys(row.discriminator for row in ARCHITECTURES.values()))
ENCODERS = tuple(dict.fromkeys(row.encoder for row in ARCHITECTURES.values() if row.encoder))


@dataclass
class GeneratorArguments:
    """Options of every family with a DCGAN-like or dense generator or decoder, and a discriminator."""

    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "adam_beta1": 0.5}

    architecture: Literal["dcgan", "avae", "mlp"] = field(
        default="dcgan",
        metadata={
            "help": "dcgan (kernel 4), avae (the AVAE authors' layout, kernel 5), or mlp (vectors, small images)."
        },
    )
    latent_dim: int = field(default=100, metadata={"help": "Dimension of the latent z."})
    width: int | None = field(
        default=None,
        metadata={
            "help": "Channels of the map next to the image, the narrowest; the others have multiples of it "
            "(dcgan, avae: 64)."
        },
    )
    hidden_dims: list[int] | None = field(
        default=None, metadata={"help": "mlp: widths of the hidden layers (128 128)."}
    )
    norm_statistics: NormStatistics = field(
        default="running",
        metadata={"help": "What batch norms use at inference: running averages, or statistics of the batch itself."},
    )
    discriminator_learning_rate: float | None = field(default=None, metadata=DISCRIMINATOR_RATE)


# Of the option `discriminator_norm` of the families whose discriminator judges images.
DISCRIMINATOR_NORM = {"help": "By default batch (dcgan, avae; layer under a gradient penalty), spectral (sngan)."}


def check_architecture(args: Any, data: DataSpec) -> None:
    """Compare the options of `GeneratorArguments`, and `discriminator_norm` where there is one, with the data.

    Raises:
        UserError: An option that means nothing here, or an architecture for other data.
    """
    check_minimums(args, latent_dim=1, width=1)
    check_positive(args, "discriminator_learning_rate")
    where = f"with --architecture {args.architecture}"
    norm, norms = getattr(args, "discriminator_norm", None), ARCHITECTURES[args.architecture].norms
    if args.architecture == "mlp":
        check_unused(args, where, "width", "norm_statistics")
        check_widths("--hidden_dims", hidden_dims(args))
    else:
        check_unused(args, where, "hidden_dims")
        if not data.is_image:
            raise UserError(
                f"--architecture {args.architecture} needs images, but {data.name} has vectors; use --architecture mlp"
            )
    if norm is not None and norm not in norms:
        if args.architecture == "mlp":
            raise UserError("--discriminator_norm has no meaning with --architecture mlp; leave it out")
        raise UserError(
            f"--discriminator_norm {norm} does not exist with --architecture {args.architecture}; "
            f"choose one of {', '.join(norms)}"
        )


def hidden_dims(args: Any) -> tuple[int, ...]:
    """Widths of an MLP's hidden layers."""
    return (128, 128) if args.hidden_dims is None else tuple(args.hidden_dims)


# building ------------------------------------------------------------------------------------------------------------


def build_generator(args: Any, data: DataSpec, latent_dim: int, **conditioning: Any) -> "ModelMixin":
    """The generator (or decoder) that the options describe, for samples like `data`.

    Args:
        args: The family's options, checked.
        data: What it shall make.
        latent_dim: Dimension of its input.
        conditioning: `conditioning` and `num_classes` of the network's constructor.
    """
    from ..models.sngan import GENERATOR_CHANNELS

    shape: dict[str, Any] = {"latent_dim": latent_dim, "out_channels": data.channels, "sample_size": data.sample_size}
    if args.architecture == "mlp":
        layers: dict[str, Any] = {"hidden_dims": hidden_dims(args)}
    elif args.architecture == "sngan":
        assert data.size is not None  # `check_architecture`
        layers = {"block_out_channels": scaled(GENERATOR_CHANNELS[min(data.size)], args.width)}
    else:
        layers = convolutional_layout(args, data)
    if args.architecture != "mlp":
        layers["norm_statistics"] = args.norm_statistics
    return _network(ARCHITECTURES[args.architecture].generator, **shape, **layers, **conditioning)


def build_discriminator(args: Any, data: DataSpec, norm: str | None = None, **more: Any) -> "ModelMixin":
    """The discriminator that the options describe.

    Args:
        args: The family's options, checked.
        data: What it shall judge.
        norm: Its normalisation; by default the option's, or the architecture's first one.
        more: Other arguments of the network's constructor: conditioning, packing, feature block.
    """
    from ..models.sngan import DISCRIMINATOR_CHANNELS

    row = ARCHITECTURES[args.architecture]
    shape: dict[str, Any] = {"in_channels": data.channels, "sample_size": data.sample_size}
    if args.architecture == "mlp":
        layers: dict[str, Any] = {"hidden_dims": hidden_dims(args)}
    elif args.architecture == "sngan":
        assert data.size is not None  # `check_architecture`
        layers = {"block_out_channels": scaled(DISCRIMINATOR_CHANNELS[min(data.size)][0], args.width)}
    else:
        layers = convolutional_layout(args, data)
    if args.architecture != "mlp":
        layers["norm"] = norm or args.discriminator_norm or row.norms[0]
    return _network(row.discriminator, **shape, **layers, **more)


def build_encoder(args: Any, data: DataSpec, shared_log_std: bool) -> "ModelMixin":
    """The encoder that the options describe: the discriminator's trunk with batch norm, or dense layers."""
    name = ARCHITECTURES[args.architecture].encoder
    assert name is not None  # families with an encoder have no other architectures
    shape: dict[str, Any] = {
        "in_channels": data.channels,
        "sample_size": data.sample_size,
        "latent_dim": args.latent_dim,
    }
    layers: dict[str, Any] = {"hidden_dims": hidden_dims(args)}
    if args.architecture != "mlp":
        layers = {**convolutional_layout(args, data), "norm_statistics": args.norm_statistics}
    return _network(name, **shape, **layers, shared_log_std=shared_log_std)


def convolutional_layout(args: Any, data: DataSpec) -> dict[str, Any]:
    """Width, kernel and strides of DCGAN-like networks for images like `data`."""
    from ..models.dcgan import avae_layout

    assert data.sample_size is not None  # `check_architecture`
    return {"width": args.width or 64, **(avae_layout(data.sample_size) if args.architecture == "avae" else {})}


def scaled(channels: tuple[int, ...], width: int | None) -> tuple[int, ...]:
    """A paper's channels with `width` for the narrowest of them; as they are for None."""
    if width is None:
        return channels
    return tuple(channel * width // min(channels) for channel in channels)


def _network(name: str, **config: Any) -> "ModelMixin":
    import hf_genmodels

    network: ModelMixin = getattr(hf_genmodels, name)(**config)
    return network


# saved networks ------------------------------------------------------------------------------------------------------


def saved_generator_options(generator: Any) -> dict[str, Any]:
    """The options of `GeneratorArguments` that a saved generator or decoder answers."""
    from ..models.dcgan import avae_layout
    from ..models.sngan import GENERATOR_CHANNELS

    config, kind = generator.config, type(generator).__name__
    options = {
        "architecture": next(name for name, row in ARCHITECTURES.items() if row.generator == kind),
        "latent_dim": config.latent_dim,
        "width": None,
        "hidden_dims": None,
        "norm_statistics": config.get("norm_statistics", "running"),
    }
    if options["architecture"] == "mlp":
        options["hidden_dims"] = list(config.hidden_dims)
    elif options["architecture"] == "sngan":
        options["width"] = min(config.block_out_channels or GENERATOR_CHANNELS[min(height_width(config.sample_size))])
    else:
        is_avae = config.kernel_size == avae_layout(config.sample_size)["kernel_size"]
        options |= {"architecture": "avae" if is_avae else "dcgan", "width": config.width}
    return options


def saved_norm(discriminator: Any) -> str:
    """The option `discriminator_norm` of a saved discriminator."""
    norm: str = discriminator.config.get("norm", "none")
    return norm
