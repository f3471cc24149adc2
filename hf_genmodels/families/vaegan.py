"""Family `vaegan`: its options, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums, check_positive, check_unused
from ..choices import DiscriminatorNorm
from ..data.spec import DataSpec
from .architectures import (
    DISCRIMINATOR_NORM,
    DISCRIMINATORS,
    ENCODERS,
    GENERATORS,
    GeneratorArguments,
    build_discriminator,
    build_encoder,
    build_generator,
    check_architecture,
    saved_generator_options,
    saved_norm,
)
from .base import Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from ..objectives.vaegan import VAEGANObjective


@dataclass
class VAEGANArguments(GeneratorArguments):
    """Options of `train_vaegan.py`."""

    discriminator_norm: DiscriminatorNorm | None = field(default=None, metadata=DISCRIMINATOR_NORM)
    beta: float = field(
        default=5.0, metadata={"help": "Weight of the KL term (thesis: 4 to 20, depending on the data set)."}
    )
    feature_weight: float = field(
        default=0.01, metadata={"help": "Weight of the feature error in the decoder's loss, gamma in the paper."}
    )
    feature_block: int | None = field(
        default=None,
        metadata={"help": "Block of the discriminator whose activations are compared (64 pixels: -2, others: -1)."},
    )


def build(args: VAEGANArguments, data: DataSpec) -> "VAEGANObjective":
    """The objective with new networks; see `Family.build`."""
    check_architecture(args, data)
    check_minimums(args, beta=0, feature_weight=0)
    features: dict[str, Any] = {}
    if args.architecture == "mlp":
        check_unused(args, "with --architecture mlp", "feature_block")
    elif args.feature_block is None:
        features["feature_block"] = -2 if data.sample_size == 64 else -1
    else:
        features["feature_block"] = args.feature_block
    networks = {
        "encoder": build_encoder(args, data, shared_log_std=True),
        "decoder": build_generator(args, data, args.latent_dim),
        "discriminator": build_discriminator(args, data, **features),
    }
    return objective(args, networks, data)


def reload(folder: Path, args: VAEGANArguments, data: DataSpec) -> "VAEGANObjective":
    """The objective around saved networks; see `Family.reload`."""
    check_positive(args, "discriminator_learning_rate")
    check_minimums(args, beta=0, feature_weight=0)
    allowed = {"encoder": ENCODERS, "decoder": GENERATORS, "discriminator": DISCRIMINATORS}
    networks = load_networks(folder, data, allowed)
    options = saved_generator_options(networks["decoder"]) | {
        "discriminator_norm": saved_norm(networks["discriminator"]),
        "feature_block": networks["discriminator"].config.get("feature_block"),
    }
    adopt_saved_options(args, options)
    return objective(args, networks, data)


def objective(args: VAEGANArguments, networks: dict[str, Any], data: DataSpec) -> "VAEGANObjective":
    """The objective with the options' numbers."""
    from ..objectives.vaegan import VAEGANObjective

    return VAEGANObjective(
        **networks,
        data=data,
        beta=args.beta,
        feature_weight=args.feature_weight,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


FAMILY = Family("vaegan", "VAE/GAN", VAEGANArguments, build, reload, "VAEGANPipeline")
