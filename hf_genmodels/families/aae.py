"""Family `aae`: its options, their checks, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_positive, check_widths
from ..choices import LatentPrior
from ..data.spec import DataSpec
from ..errors import UserError
from ..files import read_json
from .architectures import (
    ENCODERS,
    GENERATORS,
    GeneratorArguments,
    build_encoder,
    build_generator,
    check_architecture,
    saved_generator_options,
)
from .base import Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.aae import AAEObjective

NUM_COMPONENTS = 10  # of the paper's mixture


@dataclass
class AAEArguments(GeneratorArguments):
    """Options of `train_aae.py`."""

    latent_dim: int = field(default=8, metadata={"help": "Dimension of the code z (paper: 8 for MNIST)."})
    prior: LatentPrior = field(
        default="gaussian", metadata={"help": "What the codes are to follow, see `losses/latent_prior.py`."}
    )
    num_components: int | None = field(default=None, metadata={"help": "mixture: number of Gaussians (10)."})
    latent_hidden_dims: list[int] = field(
        default_factory=lambda: [1000, 1000],
        metadata={"help": "Widths of the discriminator, which judges codes."},
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: AAEArguments, data: DataSpec) -> "AAEObjective":
    """The objective with new networks; see `Family.build`."""
    from ..models.mlp import MLPDiscriminator

    check_architecture(args, data)
    check_codes(args)
    networks = {
        "encoder": build_encoder(args, data, shared_log_std=False),
        "decoder": build_generator(args, data, args.latent_dim),
        "discriminator": MLPDiscriminator(args.latent_dim, None, tuple(args.latent_hidden_dims)),
    }
    return objective(args, networks, data)


def reload(folder: Path, args: AAEArguments, data: DataSpec) -> "AAEObjective":
    """The objective around saved networks; see `Family.reload`.

    A checkpoint's networks do not say which prior they were trained with.
    """
    check_positive(args, "discriminator_learning_rate")
    allowed = {"encoder": ENCODERS, "decoder": GENERATORS, "discriminator": ("MLPDiscriminator",)}
    networks = load_networks(folder, data, allowed)
    options = saved_generator_options(networks["decoder"])
    options["latent_hidden_dims"] = list(networks["discriminator"].config.hidden_dims)
    adopt_saved_options(args, options | saved_prior(folder))
    check_codes(args)
    return objective(args, networks, data)


def objective(args: AAEArguments, networks: dict[str, Any], data: DataSpec) -> "AAEObjective":
    """The objective with the options' numbers."""
    from ..objectives.aae import AAEObjective

    return AAEObjective(
        **networks,
        data=data,
        prior=args.prior,
        num_components=components(args),
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


def components(args: AAEArguments) -> int:
    """Number of Gaussians of the mixture."""
    return NUM_COMPONENTS if args.num_components is None else args.num_components


def check_codes(args: AAEArguments) -> None:
    """Compare the options about the codes and their discriminator.

    Raises:
        UserError: One line that names the option.
    """
    from ..losses.latent_prior import check_prior

    if args.num_components is not None and args.prior != "mixture":
        raise UserError(f"--num_components has no meaning with --prior {args.prior}; leave it out")
    check_prior(args.prior, args.latent_dim, components(args), prefix="--")
    check_widths("--latent_hidden_dims", args.latent_hidden_dims)


def saved_prior(folder: Path) -> dict[str, Any]:
    """The options that say what a saved pipeline's codes follow; none of them for a checkpoint's networks.

    Raises:
        UserError: The pipeline has no prior over codes.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        return {}
    index = read_json(path)
    if "prior" not in index:
        raise UserError(f"{path} names no prior, so this is no adversarial autoencoder; give a run of train_aae.py")
    return {
        "prior": index["prior"],
        "num_components": index["num_components"] if index["prior"] == "mixture" else None,
    }


FAMILY = Family("aae", "Adversarial autoencoder", AAEArguments, build, reload, "AAEPipeline")
