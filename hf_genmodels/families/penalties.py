"""The options of a critic's penalty: which go with its loss and its norm, from the one table of `choices`."""

from typing import Any

from ..checks import check_minimums
from ..choices import PENALTIES
from ..errors import UserError

# Of the options of every family whose critic can be penalised.
GRADIENT_PENALTY = {"help": "Penalty on the discriminator's gradient, see `losses/penalties.py`."}
GRADIENT_PENALTY_WEIGHT = {"help": "Its lambda or gamma; the paper's by default (10; roth: 2)."}


def check_penalty(args: Any, kinds: tuple[str, ...]) -> None:
    """Refuse a penalty that the loss excludes, and a weight of none.

    Args:
        args: Options with `gan_loss`, `gradient_penalty` and `gradient_penalty_weight`.
        kinds: The penalties that the family knows.

    Raises:
        UserError: One line that names the options.
    """
    if args.gradient_penalty not in PENALTIES[args.gan_loss]:
        known = [kind for kind in PENALTIES[args.gan_loss] if kind in kinds]
        raise UserError(
            f"--gan_loss {args.gan_loss} and --gradient_penalty {args.gradient_penalty} exclude each other; "
            f"choose one of {', '.join(known)}"
        )
    if args.gradient_penalty_weight is not None:
        if args.gradient_penalty == "none":
            raise UserError("--gradient_penalty_weight has no meaning with --gradient_penalty none; leave it out")
        check_minimums(args, gradient_penalty_weight=0)


def check_batch_norm(args: Any, norm: str | None, option: str, others: str, saved: bool) -> None:
    """Refuse batch normalisation in a critic under a penalty.

    Args:
        args: Options with `gradient_penalty`.
        norm: The critic's normalisation.
        option: That chooses it.
        others: What it may choose instead.
        saved: The critic is a saved one, whose options can no longer be changed.

    Raises:
        UserError: One line that names the options.
    """
    if args.gradient_penalty != "none" and norm == "batch":
        culprit = "the saved discriminator's batch normalisation" if saved else f"--{option} batch"
        advice = "leave the penalty out or train a new model" if saved else f"use {others}"
        raise UserError(
            f"{culprit} and --gradient_penalty {args.gradient_penalty} exclude each other: a logit must depend on its "
            f"own sample alone; {advice}"
        )


def lipschitz_refusal(ways: list[str]) -> UserError:
    """The refusal of a Wasserstein critic whose slope nothing bounds; `ways` are options that bound it."""
    return UserError(f"--gan_loss wasserstein needs a Lipschitz critic: give {' or '.join(ways)}")
