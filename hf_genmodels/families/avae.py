"""Family `avae`: its options, their checks, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums, check_positive, check_unused
from ..choices import DiscriminatorNorm, LatentLoss
from ..data.spec import DataSpec
from ..errors import UserError
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
from .base import Family, adopt_saved_options, check_shape, load_networks
from .denoisers import load_vae

if TYPE_CHECKING:
    from ..objectives.avae import AVAEObjective


OF_VAE = "VAEEncoder", "VAEDecoder"  # the networks of a trained VAE
OPTIONS_OF_VAE = "beta", "log_std_learning_rate"  # of training encoder and decoder


@dataclass
class AVAEArguments(GeneratorArguments):
    """Options of `train_avae.py`."""

    discriminator_norm: DiscriminatorNorm | None = field(default=None, metadata=DISCRIMINATOR_NORM)
    xi_dim: int | None = field(
        default=None, metadata={"help": "Dimension of xi, which G takes beside z; that of z by default, 0 for none."}
    )
    latent_loss: LatentLoss = field(
        default="nll_b", metadata={"help": "L_Z^a or L_Z^b of the paper, or softmax, the authors' code."}
    )
    latent_warmup_steps: int = field(
        default=500,
        metadata={"help": "The latent loss has no weight for so many steps, then rises to its own over as many."},
    )
    beta: float = field(default=1.0, metadata={"help": "Weight of the KL term."})
    log_std_learning_rate: float | None = field(
        default=None, metadata={"help": "Of log sigma; --learning_rate by default."}
    )
    vae_model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Trained VAE (folder or Hub id) whose encoder and decoder stay as they are."},
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: AVAEArguments, data: DataSpec) -> "AVAEObjective":
    """The objective with new networks; see `Family.build`."""
    check_architecture(args, data)
    check_weights(args)
    vae = trained_vae(args, data)
    xi_dim = args.latent_dim if args.xi_dim is None else args.xi_dim
    networks = {
        "encoder": vae[0] if vae else build_encoder(args, data, shared_log_std=True),
        "decoder": vae[1] if vae else build_generator(args, data, args.latent_dim),
        "generator": build_generator(args, data, args.latent_dim + xi_dim),
        "discriminator": build_discriminator(args, data),
    }
    return objective(args, networks, data)


def reload(folder: Path, args: AVAEArguments, data: DataSpec) -> "AVAEObjective":
    """The objective around saved networks; see `Family.reload`."""
    check_positive(args, "discriminator_learning_rate")
    check_weights(args)
    if args.vae_model_name_or_path is not None:
        raise UserError("--vae_model_name_or_path cannot be changed with --pretrained_model_name_or_path")
    allowed = {
        "encoder": (*ENCODERS, OF_VAE[0]),
        "decoder": (*GENERATORS, OF_VAE[1]),
        "generator": GENERATORS,
        "discriminator": DISCRIMINATORS,
    }
    networks = load_networks(folder, data, allowed)
    if is_of_vae(networks):
        check_unused(args, "where encoder and decoder are those of a trained VAE", *OPTIONS_OF_VAE)
    adopt_saved_options(args, saved_options(networks))
    return objective(args, networks, data)


def objective(args: AVAEArguments, networks: dict[str, Any], data: DataSpec) -> "AVAEObjective":
    """The objective with the options' numbers."""
    from ..objectives.avae import AVAEObjective

    return AVAEObjective(
        **networks,
        data=data,
        latent_loss=args.latent_loss,
        latent_warmup_steps=args.latent_warmup_steps,
        beta=args.beta,
        log_std_learning_rate=args.log_std_learning_rate,
        discriminator_learning_rate=args.discriminator_learning_rate,
        frozen_vae=is_of_vae(networks),
    )


def is_of_vae(networks: dict[str, Any]) -> bool:
    """Whether encoder and decoder are those of a VAE that was trained before."""
    return type(networks["encoder"]).__name__ == OF_VAE[0]


def trained_vae(args: AVAEArguments, data: DataSpec) -> tuple[Any, ...]:
    """Encoder and decoder of the VAE that `--vae_model_name_or_path` names, whose latents' dimension `args` take over.

    Raises:
        UserError: There is none, it takes other samples, or options are given that are its own.
    """
    if args.vae_model_name_or_path is None:
        return ()
    from ..models.vae_parts import split_vae

    check_unused(args, "with --vae_model_name_or_path", *OPTIONS_OF_VAE)
    vae = load_vae(args.vae_model_name_or_path)
    check_shape(vae, data)
    if args.latent_dim not in (AVAEArguments.latent_dim, vae.config.latent_dim):
        raise UserError(f"--latent_dim is the VAE's, {vae.config.latent_dim}; leave it out")
    args.latent_dim = vae.config.latent_dim
    return split_vae(vae)


def check_weights(args: AVAEArguments) -> None:
    """Refuse weights and steps below zero, and a learning rate of log sigma that is not above it.

    Raises:
        UserError: One line that names the option.
    """
    check_minimums(args, latent_warmup_steps=0, beta=0, xi_dim=0)
    check_positive(args, "log_std_learning_rate")


def saved_options(networks: dict[str, Any]) -> dict[str, Any]:
    """The options that shape an AVAE's networks, of saved ones' configurations."""
    latent_dim = networks["decoder"].config.latent_dim
    return saved_generator_options(networks["generator"]) | {
        "latent_dim": latent_dim,
        "xi_dim": networks["generator"].config.latent_dim - latent_dim,
        "discriminator_norm": saved_norm(networks["discriminator"]),
    }


FAMILY = Family("avae", "Adversarial variational autoencoder", AVAEArguments, build, reload, "AVAEPipeline")
