"""Family `infogan`: its options, and how networks are built from them or found again."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_positive
from ..choices import DiscriminatorNorm
from ..data.spec import DataSpec
from ..errors import UserError
from .architectures import (
    ARCHITECTURES,
    DISCRIMINATOR_NORM,
    GENERATORS,
    GeneratorArguments,
    build_generator,
    check_architecture,
    convolutional_layout,
    hidden_dims,
    saved_generator_options,
)
from .base import Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.infogan import InfoGANObjective


@dataclass
class InfoGANArguments(GeneratorArguments):
    """Options of `train_infogan.py`."""

    discriminator_norm: DiscriminatorNorm | None = field(default=None, metadata=DISCRIMINATOR_NORM)
    num_categories: int = field(default=10, metadata={"help": "Of the categorical code; 0 for none."})
    num_codes: int = field(
        default=2, metadata={"help": "Continuous codes: the first coordinates of the latent; 0 for none."}
    )
    category_weight: float = field(default=1.0, metadata={"help": "lambda of the category's information."})
    code_weight: float = field(default=0.1, metadata={"help": "lambda of the continuous codes' information."})


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: InfoGANArguments, data: DataSpec) -> "InfoGANObjective":
    """The objective with new networks; see `Family.build`."""
    from ..models.infogan import InfoGANDiscriminator

    check_architecture(args, data)
    check_options(args)
    shape: dict[str, Any] = {"hidden_dims": hidden_dims(args)}
    if args.architecture != "mlp":
        norm = args.discriminator_norm or ARCHITECTURES[args.architecture].norms[0]
        shape = {"norm": norm, **convolutional_layout(args, data)}
    conditioning = {"conditioning": "concat", "num_classes": args.num_categories} if args.num_categories else {}
    networks = {
        "generator": build_generator(args, data, args.latent_dim, **conditioning),
        "discriminator": InfoGANDiscriminator(
            data.channels, data.sample_size, args.num_categories or None, args.num_codes, **shape
        ),
    }
    return objective(args, networks, data)


def reload(folder: Path, args: InfoGANArguments, data: DataSpec) -> "InfoGANObjective":
    """The objective around saved networks; see `Family.reload`."""
    check_positive(args, "discriminator_learning_rate")
    networks = load_networks(folder, data, {"discriminator": ("InfoGANDiscriminator",), "generator": GENERATORS})
    options = saved_generator_options(networks["generator"])
    config = networks["discriminator"].config
    is_mlp = options["architecture"] == "mlp"
    options |= {
        "discriminator_norm": "none" if is_mlp else config.norm,
        "num_categories": config.num_categories or 0,
        "num_codes": config.num_codes,
    }
    adopt_saved_options(args, options)
    check_options(args)
    return objective(args, networks, data)


def objective(args: InfoGANArguments, networks: dict[str, Any], data: DataSpec) -> "InfoGANObjective":
    """The objective with the options' numbers."""
    from ..objectives.infogan import InfoGANObjective

    return InfoGANObjective(
        **networks,
        data=data,
        category_weight=args.category_weight,
        code_weight=args.code_weight,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


# which options go together -------------------------------------------------------------------------------------------


def check_options(args: InfoGANArguments) -> None:
    """Refuse numbers of codes and weights that mean nothing.

    Raises:
        UserError: One line that names the option.
    """
    if args.num_categories < 0 or args.num_categories == 1:
        raise UserError(f"--num_categories must be 0 (none) or at least 2, got {args.num_categories}")
    if not 0 <= args.num_codes <= args.latent_dim:
        raise UserError(f"--num_codes must be from 0 to --latent_dim {args.latent_dim}, got {args.num_codes}")
    if not args.num_categories and not args.num_codes:
        raise UserError("--num_categories 0 and --num_codes 0 leave no code: give one of them, or train a `gan`")
    defaults = InfoGANArguments()
    for name, number in (("category_weight", args.num_categories), ("code_weight", args.num_codes)):
        weight = getattr(args, name)
        if not 0 <= weight < math.inf:
            raise UserError(f"--{name} must be at least 0 and finite, got {weight}")
        if not number and weight != getattr(defaults, name):
            raise UserError(f"--{name} has no meaning without such codes; leave it out")


FAMILY = Family("infogan", "Information maximising GAN", InfoGANArguments, build, reload, "InfoGANPipeline")
