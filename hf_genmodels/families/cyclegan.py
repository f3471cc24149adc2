"""Family `cyclegan`: its options, which of them go together, and how networks are built from them or found again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums
from ..choices import PixelLoss
from ..data.spec import DataSpec, Layout
from ..errors import UserError
from .base import TRANSLATION, Family, built_anew
from .translators import (
    TranslatorArguments,
    adopt_data,
    build_patch_discriminator,
    build_translator,
    check_critics,
    check_smallest,
    check_translators,
    load_translating,
    second,
)

if TYPE_CHECKING:
    from ..objectives.cyclegan import CycleGANObjective

TRANSLATORS = ("generator_ab", "generator_ba")
DISCRIMINATORS = ("discriminator_a", "discriminator_b")


@dataclass
class CycleGANArguments(TranslatorArguments):
    """Options of `train_cyclegan.py`."""

    cycle_weight: float = field(default=10.0, metadata={"help": "lambda, of the two cycles' reconstruction losses."})
    identity_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the loss between a translator's output for an image of its target domain and that image."
        },
    )
    reconstruction_loss: PixelLoss = field(
        default="l1", metadata={"help": "Distance of cycle and identity losses: l1 (CycleGAN) or mse (DiscoGAN)."}
    )
    pool_size: int = field(
        default=50, metadata={"help": "Earlier fakes, of each row of a batch, that the discriminators see; 0: none."}
    )


def layout(args: CycleGANArguments) -> Layout:
    """Images of two domains that do not belong together."""
    return Layout("domains")


def build(args: CycleGANArguments, data: DataSpec) -> "CycleGANObjective":
    """The objective with new networks; see `Family.build`."""
    from ..objectives.cyclegan import CycleGANObjective

    check_options(args, data)
    return CycleGANObjective(**all_networks(args, data), data=data, **numbers(args))


def reload(folder: Path, args: CycleGANArguments, data: DataSpec) -> "CycleGANObjective":
    """The objective around saved networks; see `Family.reload`."""
    from ..objectives.cyclegan import CycleGANObjective

    saved = saved_networks(folder, args)
    check_options(args, data, saved)
    networks = all_networks(args, data, saved)
    objective = CycleGANObjective(**networks, data=data, **numbers(args))
    objective.notes = built_anew(folder, (name for name in networks if name not in saved))
    return objective


def all_networks(args: CycleGANArguments, data: DataSpec, saved: dict[str, Any] | None = None) -> dict[str, Any]:
    """The four networks by name: saved ones, for images of the data's size from now on, and new ones.

    Raises:
        UserError: Saved ones have other channels, or cannot take images of this size.
    """
    other, networks = second(data), dict(saved or {})
    sides = {"ab": (data, other), "ba": (other, data)}
    for name, domains in sides.items():
        if f"generator_{name}" in networks:
            adopt_data(networks[f"generator_{name}"], *domains)
    build: dict[str, Callable[[], Any]] = {
        "generator_ab": lambda: build_translator(args, data, other),
        "generator_ba": lambda: build_translator(args, other, data),
        "discriminator_a": lambda: build_patch_discriminator(args, data.channels, data),
        "discriminator_b": lambda: build_patch_discriminator(args, other.channels, other),
    }
    check_smallest(args.receptive_field, data)
    return {name: networks[name] if name in networks else make() for name, make in build.items()}


def saved_networks(folder: Path, args: CycleGANArguments) -> dict[str, Any]:
    """The networks of a saved model by name; sets the options that shape them."""
    return load_translating(folder, args, TRANSLATORS, DISCRIMINATORS)


def numbers(args: CycleGANArguments) -> dict[str, Any]:
    """What `CycleGANObjective` takes beside networks and data."""
    return {
        "gan_loss": args.gan_loss,
        "cycle_weight": args.cycle_weight,
        "identity_weight": args.identity_weight,
        "reconstruction_loss": args.reconstruction_loss,
        "pool_size": args.pool_size,
        "discriminator_learning_rate": args.discriminator_learning_rate,
        "gradient_penalty": args.gradient_penalty,
        "gradient_penalty_weight": args.gradient_penalty_weight,
    }


def check_options(args: CycleGANArguments, data: DataSpec, saved: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Compare the options with each other, with the data, and with saved networks.

    Raises:
        UserError: One line that names the option, or domains of different sizes.
    """
    check_domains(args, data, saved)
    other = second(data)
    if args.identity_weight > 0 and data.channels != other.channels:
        raise UserError(
            f"--identity_weight needs domains of as many channels, but A has {data.channels} and B has "
            f"{other.channels}; leave it out"
        )


def check_domains(args: CycleGANArguments, data: DataSpec, saved: Mapping[str, Any] = MappingProxyType({})) -> None:
    """`check_options` without what the identity loss needs.

    Raises:
        UserError: One line that names the option, or domains of different sizes.
    """
    check_translators(args, data)
    check_critics(args, [saved[name] for name in DISCRIMINATORS if name in saved])
    check_minimums(args, cycle_weight=0, identity_weight=0, pool_size=0)
    other = second(data)
    if data.size != other.size:
        raise UserError(f"the images of domain A have shape {data.shape}, those of B {other.shape}; give --resolution")


FAMILY = Family(
    "cyclegan", "CycleGAN", CycleGANArguments, build, reload, "CycleGANPipeline", TRANSLATION, layout=layout
)
