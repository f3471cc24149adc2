"""Options that shape an encoder and the decoder that mirrors it, for the families that have such a pair."""

from dataclasses import dataclass, field
from typing import Any

from ..checks import check_unused
from ..choices import TrunkNorm

# Options that shape nothing in a network of this architecture.
UNUSED: dict[str, tuple[str, ...]] = {
    "linear": ("hidden_dims", "block_out_channels", "norm"),
    "beta_vae": ("hidden_dims", "block_out_channels", "norm"),
    "mlp": ("block_out_channels", "norm"),
    "conv": (),
}


@dataclass
class TrunkArguments:
    """Options shared by `autoencoder` and `vae`; see `blocks/autoencoding.py`."""

    latent_dim: int = field(default=32, metadata={"help": "Dimension of the latent z."})
    block_out_channels: list[int] = field(
        default_factory=lambda: [32, 64, 128], metadata={"help": "conv: widths of the stride-2 convolutions."}
    )
    hidden_dims: list[int] | None = field(
        default=None,
        metadata={"help": "Widths of the encoder's dense layers, mirrored in the decoder (mlp: 512 256; conv: none)."},
    )
    norm: TrunkNorm = field(default="batch", metadata={"help": "conv: normalisation layers."})


def network_options(args: Any) -> dict[str, Any]:
    """The options of `TrunkArguments`, and `architecture`, as the networks' constructors take them.

    Raises:
        UserError: An option was changed from its default that has no meaning with the architecture.
    """
    check_unused(args, f"with --architecture {args.architecture}", *UNUSED[args.architecture])
    default_dims = [512, 256] if args.architecture == "mlp" else []
    return {
        "latent_dim": args.latent_dim,
        "architecture": args.architecture,
        "block_out_channels": tuple(args.block_out_channels),
        "hidden_dims": tuple(default_dims if args.hidden_dims is None else args.hidden_dims),
        "norm": args.norm,
    }


def saved_options(config: Any) -> dict[str, Any]:
    """The options of `TrunkArguments`, and the architecture, of a saved network's configuration."""
    return {
        "latent_dim": config.latent_dim,
        "architecture": config.architecture,
        "block_out_channels": list(config.block_out_channels),
        "hidden_dims": list(config.hidden_dims),
        "norm": config.norm,
    }
