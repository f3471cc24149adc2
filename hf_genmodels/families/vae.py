"""Family `vae`: its options, which of them go together, and how its network is built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_minimums, check_positive, check_unused, check_widths
from ..choices import KLEstimator, Likelihood, TCEstimator
from ..data.spec import DataSpec
from ..errors import UserError
from .base import (
    DISCRIMINATOR_RATE,
    Family,
    adopt_saved_options,
    built_anew,
    find_saved,
    load_networks,
    load_saved,
)
from .levels import check_num_levels, choose_num_levels
from .trunk import TrunkArguments, network_options, saved_options

if TYPE_CHECKING:
    from ..objectives.vae import VAEObjective

# Table 4.2 of the Plumerault thesis (after Burgess et al. 2018), with its reshape mended (see `VAE`).
BETA_VAE: dict[str, Any] = {
    "architecture": "conv",
    "block_out_channels": (32, 32, 32, 32),
    "hidden_dims": (256, 256),
    "decoder_hidden_dims": (256,),
    "norm": "none",
}
DECODER = "the categorical decoder"  # as the messages about grey levels call it


@dataclass
class VAEArguments(TrunkArguments):
    """Options of `train_vae.py`."""

    architecture: Literal["conv", "mlp", "beta_vae"] = field(
        default="conv",
        metadata={
            "help": "conv (DCGAN-style), mlp, or beta_vae (Plumerault thesis, table 4.2, after Burgess et al. 2018; "
            "64x64)."
        },
    )
    likelihood: Likelihood = field(default="gaussian", metadata={"help": "Decoder p(x|z)."})
    gaussian_std: float = field(default=1.0, metadata={"help": "gaussian: standard deviation s on the [-1, 1] scale."})
    learn_std: bool = field(default=False, metadata={"help": "gaussian: learn s, starting at --gaussian_std."})
    num_levels: int | None = field(
        default=None,
        metadata={"help": "categorical: grey levels of a pixel; those of the data by default, at most 256."},
    )
    beta: float = field(default=1.0, metadata={"help": "Weight of the KL term."})
    beta_warmup_steps: int = field(default=0, metadata={"help": "Steps over which beta rises linearly from 0."})
    free_bits: float = field(
        default=0.0, metadata={"help": "Nats a latent dimension below which its batch-averaged KL is not pushed."}
    )
    kl_estimator: KLEstimator = field(
        default="closed_form",
        metadata={"help": "KL term: closed_form, or sampled (log q(z|x) - log p(z) at the z that is decoded)."},
    )
    tc_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the total correlation, on top of the KL term: beta - 1 of the beta-TC-VAE, gamma of "
            "FactorVAE."
        },
    )
    tc_estimator: TCEstimator = field(
        default="minibatch_weighted",
        metadata={"help": "From a batch (beta-TC-VAE, two ways), or by a discriminator of codes (FactorVAE)."},
    )
    latent_hidden_dims: list[int] = field(
        default_factory=lambda: [1000] * 6, metadata={"help": "discriminator: its widths; it judges codes."}
    )
    discriminator_learning_rate: float | None = field(default=None, metadata=DISCRIMINATOR_RATE)


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: VAEArguments, data: DataSpec) -> "VAEObjective":
    """The objective with a new network; see `Family.build`."""
    from ..models.vae import VAE

    check_minimums(args, latent_dim=1)
    check_weights(args)
    check_likelihood(args, data)
    options = network_options(args)
    if args.architecture == "beta_vae":
        options |= BETA_VAE
    if args.likelihood == "categorical":
        options["num_levels"] = choose_num_levels(args, data, DECODER, most=256)
    vae = VAE(
        in_channels=data.channels,
        sample_size=data.sample_size,
        likelihood=args.likelihood,
        gaussian_std=args.gaussian_std,
        learn_std=args.learn_std,
        **options,
    )
    return objective(args, vae, data)


def reload(folder: Path, args: VAEArguments, data: DataSpec) -> "VAEObjective":
    """The objective around a saved network; see `Family.reload`."""
    check_weights(args)
    vae = load_networks(folder, data, {"vae": ("VAE",)})["vae"]
    given = args.num_levels
    adopt_saved_options(args, saved_vae_options(vae.config))
    if vae.config.likelihood == "categorical" and given is None:
        check_num_levels(vae.config.num_levels, data, DECODER)
    if not has_discriminator(args):
        return objective(args, vae, data)
    if find_saved(folder, "discriminator") is None:
        built = objective(args, vae, data)
        built.notes = built_anew(folder, ["discriminator"])
        return built
    discriminator = load_saved(folder, "discriminator", ("MLPDiscriminator",))
    adopt_saved_options(args, {"latent_hidden_dims": list(discriminator.config.hidden_dims)})
    return objective(args, vae, data, discriminator)


def objective(args: VAEArguments, vae: Any, data: DataSpec, discriminator: Any = None) -> "VAEObjective":
    """The objective with the options' numbers, and with a new discriminator where it needs one that is not given."""
    from ..models.mlp import MLPDiscriminator
    from ..objectives.factorvae import FactorVAEObjective
    from ..objectives.vae import VAEObjective

    options: dict[str, Any] = {
        "beta": args.beta,
        "beta_warmup_steps": args.beta_warmup_steps,
        "free_bits": args.free_bits,
        "kl_estimator": args.kl_estimator,
        "tc_weight": args.tc_weight,
    }
    if not has_discriminator(args):
        return VAEObjective(vae, data, **options, tc_estimator=args.tc_estimator)
    return FactorVAEObjective(
        vae,
        discriminator or MLPDiscriminator(vae.config.latent_dim, None, tuple(args.latent_hidden_dims)),
        data,
        **options,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


def has_discriminator(args: VAEArguments) -> bool:
    """Whether the options are those of a FactorVAE."""
    return args.tc_weight > 0 and args.tc_estimator == "discriminator"


def check_weights(args: VAEArguments) -> None:
    """Refuse weights below zero, and options of a total correlation that has no weight or no discriminator.

    Raises:
        UserError: One line that names the option.
    """
    check_minimums(args, beta=0, beta_warmup_steps=0, free_bits=0, tc_weight=0)
    check_positive(args, "discriminator_learning_rate")
    if args.tc_weight == 0:
        check_unused(args, "without --tc_weight", "tc_estimator", "latent_hidden_dims", "discriminator_learning_rate")
    elif args.tc_estimator != "discriminator":
        where = f"with --tc_estimator {args.tc_estimator}"
        check_unused(args, where, "latent_hidden_dims", "discriminator_learning_rate")
    check_widths("--latent_hidden_dims", args.latent_hidden_dims)


def check_likelihood(args: VAEArguments, data: DataSpec) -> None:
    """Refuse options that mean nothing with the decoder's likelihood, and a likelihood for other data.

    Raises:
        UserError: One line that names the option.
    """
    if args.likelihood != "gaussian" and (args.learn_std or args.gaussian_std != 1.0):
        raise UserError(f"--gaussian_std and --learn_std have no meaning with --likelihood {args.likelihood}")
    if args.likelihood != "categorical":
        check_unused(args, f"with --likelihood {args.likelihood}", "num_levels")
    if args.likelihood != "gaussian" and not data.is_image:
        raise UserError(f"--likelihood {args.likelihood} needs images in [-1, 1], but {data.name} has vectors")


def saved_vae_options(config: Any) -> dict[str, Any]:
    """The options that shape a VAE, of a saved one's configuration."""
    options = saved_options(config) | {
        "likelihood": config.likelihood,
        "gaussian_std": config.gaussian_std,
        "learn_std": config.learn_std,
        "num_levels": config.num_levels if config.likelihood == "categorical" else None,
    }
    # a configuration read from JSON has lists
    as_built = {name: tuple(v) if isinstance(v := config[name], list) else v for name in BETA_VAE}
    if as_built == BETA_VAE:
        options["architecture"] = "beta_vae"
    return options


FAMILY = Family("vae", "Variational autoencoder", VAEArguments, build, reload, "VAEPipeline")
