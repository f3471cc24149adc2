"""Family `began`: its options, their checks, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..checks import check_minimums, check_positive, check_widths
from ..data.spec import DataSpec
from ..errors import UserError
from .base import DISCRIMINATOR_RATE, Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.began import BEGANObjective


@dataclass
class BEGANArguments:
    """Options of `train_began.py`."""

    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 1e-4, "adam_beta1": 0.5}

    latent_dim: int = field(
        default=64, metadata={"help": "Dimension of the latent z, and of the discriminator's code."}
    )
    width: int | None = field(
        default=None, metadata={"help": "Images: channels of the maps, n in the paper, which has 64 or 128 (64)."}
    )
    hidden_dims: list[int] | None = field(
        default=None, metadata={"help": "Vectors: widths of the hidden layers (128 128)."}
    )
    discriminator_learning_rate: float | None = field(default=None, metadata=DISCRIMINATOR_RATE)
    gamma: float = field(
        default=0.5,
        metadata={
            "help": "L(G(z)) / L(x) that is aimed at, 0 to 1: lower for better, higher for more diverse samples."
        },
    )
    lambda_k: float = field(
        default=0.001, metadata={"help": "Gain of the control loop of k; more than the paper's 0.001 for short runs."}
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: BEGANArguments, data: DataSpec) -> "BEGANObjective":
    """The objective with new networks; see `Family.build`."""
    from ..models.began import BEGANDiscriminator, BEGANGenerator

    check(args, data)
    shape: dict[str, Any] = {"width": 64 if args.width is None else args.width}
    if not data.is_image:
        shape = {"hidden_dims": (128, 128) if args.hidden_dims is None else tuple(args.hidden_dims)}
    generator = BEGANGenerator(args.latent_dim, data.channels, data.sample_size, **shape)
    discriminator = BEGANDiscriminator(data.channels, data.sample_size, args.latent_dim, **shape)
    return objective(args, {"generator": generator, "discriminator": discriminator}, data)


def reload(folder: Path, args: BEGANArguments, data: DataSpec) -> "BEGANObjective":
    """The objective around saved networks; see `Family.reload`."""
    check_balance(args)
    networks = load_networks(
        folder, data, {"discriminator": ("BEGANDiscriminator",), "generator": ("BEGANGenerator",)}
    )
    config = networks["generator"].config
    is_image = config.sample_size is not None
    options = {
        "latent_dim": config.latent_dim,
        "width": config.width if is_image else None,
        "hidden_dims": None if is_image else list(config.hidden_dims),
    }
    adopt_saved_options(args, options)
    return objective(args, networks, data)


def objective(args: BEGANArguments, networks: dict[str, Any], data: DataSpec) -> "BEGANObjective":
    """The objective with the options' numbers."""
    from ..objectives.began import BEGANObjective

    return BEGANObjective(
        **networks,
        data=data,
        gamma=args.gamma,
        lambda_k=args.lambda_k,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


# which options go together -------------------------------------------------------------------------------------------


def check(args: BEGANArguments, data: DataSpec) -> None:
    """Refuse options that mean nothing for such data, and values out of range.

    Raises:
        UserError: One line that names the option.
    """
    check_minimums(args, latent_dim=1, width=1)
    unused, kind = ("hidden_dims", "images") if data.is_image else ("width", "vectors")
    if getattr(args, unused) is not None:
        raise UserError(f"--{unused} has no meaning for {kind}, which {data.name} has; leave it out")
    check_widths("--hidden_dims", args.hidden_dims or ())
    check_balance(args)


def check_balance(args: BEGANArguments) -> None:
    """Refuse a proportion, a gain or a learning rate out of range.

    Raises:
        UserError: One line that names the option.
    """
    check_positive(args, "discriminator_learning_rate")
    for name in ("gamma", "lambda_k"):
        if not 0 <= getattr(args, name) <= 1:
            raise UserError(f"--{name} must be from 0 to 1, got {getattr(args, name)}")


FAMILY = Family("began", "Boundary equilibrium GAN", BEGANArguments, build, reload, "GANPipeline")
