"""Family `autoencoder`: its options, which of them go together, and how its network is built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums
from ..choices import CodeRegularizer, Corruption, TrunkArchitecture
from ..data.spec import DataSpec
from ..errors import UserError
from .base import Family, adopt_saved_options, check_labels, load_networks
from .trunk import TrunkArguments, network_options, saved_options

if TYPE_CHECKING:
    from ..objectives.autoencoder import AutoencoderObjective


@dataclass
class AutoencoderArguments(TrunkArguments):
    """Options of `train_autoencoder.py`."""

    architecture: TrunkArchitecture = field(
        default="conv", metadata={"help": "linear (= PCA), mlp, or conv (DCGAN-style)."}
    )
    regularizer: CodeRegularizer = field(
        default="none",
        metadata={"help": "Of the code: L1 norm, KL of the mean activation to --sparsity_target, or ||dz/dx||^2."},
    )
    regularizer_weight: float = field(default=1e-3, metadata={"help": "Weight of --regularizer."})
    sparsity_target: float = field(default=0.05, metadata={"help": "kl: wished mean activation, rho of Ng 2011."})
    k_sparse: int | None = field(default=None, metadata={"help": "Keep only the k largest entries of each code."})
    corruption: Corruption = field(
        default="none", metadata={"help": "Denoising: what is done to the input before it is encoded."}
    )
    corruption_level: float = field(
        default=0.3,
        metadata={
            "help": "gaussian: standard deviation on the [-1, 1] scale; masking: share of entries set to the minimum."
        },
    )
    classification_weight: float = field(
        default=0.0, metadata={"help": "Weight of a linear classifier's cross-entropy on the code (needs labels)."}
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: AutoencoderArguments, data: DataSpec) -> "AutoencoderObjective":
    """The objective with a new network; see `Family.build`."""
    from ..models.autoencoder import Autoencoder

    check_minimums(args, latent_dim=1)
    autoencoder = Autoencoder(
        in_channels=data.channels,
        sample_size=data.sample_size,
        latent_activation="sigmoid" if args.regularizer == "kl" else "identity",
        k_sparse=args.k_sparse,
        num_classes=check_labels(data, "--classification_weight") if args.classification_weight else None,
        **network_options(args),
    )
    return objective(args, autoencoder, data)


def reload(folder: Path, args: AutoencoderArguments, data: DataSpec) -> "AutoencoderObjective":
    """The objective around a saved network; see `Family.reload`."""
    autoencoder = load_networks(folder, data, {"autoencoder": ("Autoencoder",)})["autoencoder"]
    adopt_saved_options(args, saved_options(autoencoder.config) | {"k_sparse": autoencoder.config.k_sparse})
    if args.regularizer == "contractive" and mixes_the_batch(autoencoder):
        raise UserError(
            "--regularizer contractive needs codes that depend on one image each, but the saved network has batch "
            "normalisation; train one anew with --norm group or none"
        )
    return objective(args, autoencoder, data)


def objective(args: AutoencoderArguments, autoencoder: Any, data: DataSpec) -> "AutoencoderObjective":
    """The objective with the options' numbers."""
    from ..objectives.autoencoder import AutoencoderObjective

    check_combination(args, autoencoder, data)
    return AutoencoderObjective(
        autoencoder,
        data,
        regularizer=args.regularizer,
        regularizer_weight=args.regularizer_weight,
        sparsity_target=args.sparsity_target,
        corruption=args.corruption,
        corruption_level=args.corruption_level,
        classification_weight=args.classification_weight,
    )


# which options go together -------------------------------------------------------------------------------------------


def check_combination(args: AutoencoderArguments, autoencoder: Any, data: DataSpec) -> None:
    """Refuse options that do not go together, or not with the network, which may be a saved one.

    Raises:
        UserError: One line for the first such pair.
    """
    config = autoencoder.config
    check_minimums(args, regularizer_weight=0, corruption_level=0, classification_weight=0)
    if args.regularizer == "contractive" and mixes_the_batch(autoencoder):
        raise UserError(
            "--regularizer contractive needs codes that depend on one image each: use --norm group or none"
        )
    if config.k_sparse is not None and not 1 <= config.k_sparse <= config.latent_dim:
        raise UserError(f"--k_sparse {config.k_sparse} must lie between 1 and --latent_dim {config.latent_dim}")
    if not 0 < args.sparsity_target < 1:
        raise UserError(f"--sparsity_target {args.sparsity_target} must lie in (0, 1)")
    if args.regularizer == "kl" and config.latent_activation != "sigmoid":
        raise UserError("--regularizer kl needs codes in (0, 1); the pretrained network was trained without it")
    if args.corruption == "masking" and not args.corruption_level <= 1:
        raise UserError(f"--corruption_level {args.corruption_level} must lie in [0, 1] for masking")
    if args.corruption == "masking" and not data.is_image:
        raise UserError(f"--corruption masking needs images in [-1, 1], but {data.name} has vectors; use gaussian")
    if args.classification_weight and config.num_classes != check_labels(data, "--classification_weight"):
        raise UserError(
            f"--classification_weight needs a head for the classes of {data.name}; the pretrained network has "
            f"{'none' if config.num_classes is None else f'one for {config.num_classes}'}"
        )


def mixes_the_batch(autoencoder: Any) -> bool:
    """Whether the code of an image depends on the others of its batch while training."""
    return autoencoder.config.architecture == "conv" and autoencoder.config.norm == "batch"


FAMILY = Family(
    "autoencoder",
    "Autoencoder",
    AutoencoderArguments,
    build,
    reload,
    "AutoencoderPipeline",
    pipeline_tag="image-feature-extraction",
)
