"""Family `bigan`: its options, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_positive
from ..choices import DiscriminatorNorm
from ..data.spec import DataSpec
from .architectures import (
    ARCHITECTURES,
    DISCRIMINATOR_NORM,
    ENCODERS,
    GENERATORS,
    GeneratorArguments,
    build_encoder,
    build_generator,
    check_architecture,
    convolutional_layout,
    hidden_dims,
    saved_generator_options,
)
from .base import Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.bigan import BiGANObjective


@dataclass
class BiGANArguments(GeneratorArguments):
    """Options of `train_bigan.py`."""

    discriminator_norm: DiscriminatorNorm | None = field(default=None, metadata=DISCRIMINATOR_NORM)


def build(args: BiGANArguments, data: DataSpec) -> "BiGANObjective":
    """The objective with new networks; see `Family.build`."""
    from ..models.bigan import BiGANDiscriminator

    check_architecture(args, data)
    shape: dict[str, Any] = {"hidden_dims": hidden_dims(args)}
    if args.architecture != "mlp":
        norm = args.discriminator_norm or ARCHITECTURES[args.architecture].norms[0]
        shape = {"norm": norm, **convolutional_layout(args, data)}
    networks = {
        "encoder": build_encoder(args, data, shared_log_std=False),
        "generator": build_generator(args, data, args.latent_dim),
        "discriminator": BiGANDiscriminator(data.channels, data.sample_size, args.latent_dim, **shape),
    }
    return objective(args, networks, data)


def reload(folder: Path, args: BiGANArguments, data: DataSpec) -> "BiGANObjective":
    """The objective around saved networks; see `Family.reload`."""
    check_positive(args, "discriminator_learning_rate")
    allowed = {"encoder": ENCODERS, "generator": GENERATORS, "discriminator": ("BiGANDiscriminator",)}
    networks = load_networks(folder, data, allowed)
    options = saved_generator_options(networks["generator"])
    is_mlp = options["architecture"] == "mlp"
    options["discriminator_norm"] = "none" if is_mlp else networks["discriminator"].config.norm
    adopt_saved_options(args, options)
    return objective(args, networks, data)


def objective(args: BiGANArguments, networks: dict[str, Any], data: DataSpec) -> "BiGANObjective":
    """The objective with the options' numbers."""
    from ..objectives.bigan import BiGANObjective

    return BiGANObjective(**networks, data=data, discriminator_learning_rate=args.discriminator_learning_rate)


FAMILY = Family("bigan", "Bidirectional GAN", BiGANArguments, build, reload, "BiGANPipeline")
