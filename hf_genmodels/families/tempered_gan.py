"""Family `tempered_gan`: its options, their checks, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums, check_positive
from ..choices import DiscriminatorNorm
from ..data.spec import DataSpec
from ..errors import UserError
from .architectures import (
    DISCRIMINATOR_NORM,
    DISCRIMINATORS,
    GENERATORS,
    GeneratorArguments,
    build_discriminator,
    build_generator,
    check_architecture,
    hidden_dims,
    saved_generator_options,
    saved_norm,
)
from .base import Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.tempered_gan import TemperedGANObjective


@dataclass
class TemperedGANArguments(GeneratorArguments):
    """Options of `train_tempered_gan.py`."""

    discriminator_norm: DiscriminatorNorm | None = field(default=None, metadata=DISCRIMINATOR_NORM)
    lens_steps: int = field(
        default=5000,
        metadata={"help": "K: steps over which the lens's adversarial weight falls from 1 to 0. Train for more."},
    )
    lens_width: int | None = field(
        default=None,
        metadata={"help": "Images: channels of the lens (64). A lens for vectors has the widths of --hidden_dims."},
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: TemperedGANArguments, data: DataSpec) -> "TemperedGANObjective":
    """The objective with new networks; see `Family.build`."""
    from ..models.lens import LensNetwork

    check_architecture(args, data)
    check_lens(args, data)
    width = 64 if args.lens_width is None else args.lens_width
    networks = {
        "generator": build_generator(args, data, args.latent_dim),
        "discriminator": build_discriminator(args, data),
        "lens": LensNetwork(data.channels, data.sample_size, width, hidden_dims=hidden_dims(args)),
    }
    return objective(args, networks, data)


def reload(folder: Path, args: TemperedGANArguments, data: DataSpec) -> "TemperedGANObjective":
    """The objective around saved networks; see `Family.reload`."""
    check_positive(args, "discriminator_learning_rate")
    check_lens(args, data)
    allowed = {"discriminator": DISCRIMINATORS, "generator": GENERATORS, "lens": ("LensNetwork",)}
    networks = load_networks(folder, data, allowed)
    options = saved_generator_options(networks["generator"])
    if data.is_image:
        options["lens_width"] = networks["lens"].config.width
    options["discriminator_norm"] = saved_norm(networks["discriminator"])
    adopt_saved_options(args, options)
    return objective(args, networks, data)


def objective(args: TemperedGANArguments, networks: dict[str, Any], data: DataSpec) -> "TemperedGANObjective":
    """The objective with the options' numbers."""
    from ..objectives.tempered_gan import TemperedGANObjective

    return TemperedGANObjective(
        **networks,
        data=data,
        lens_steps=args.lens_steps,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


def check_lens(args: TemperedGANArguments, data: DataSpec) -> None:
    """Refuse steps or widths below 1, and a width for vectors.

    Raises:
        UserError: One line that names the option.
    """
    check_minimums(args, lens_steps=1, lens_width=1)
    if args.lens_width is not None and not data.is_image:
        raise UserError(f"--lens_width has no meaning for vectors, which {data.name} has; leave it out")


FAMILY = Family("tempered_gan", "Tempered adversarial network", TemperedGANArguments, build, reload, "GANPipeline")
