"""The options of family `gan` that steady its training, and which of them go together."""

from dataclasses import dataclass, field
from typing import Any

from ..checks import check_minimums, check_positive, check_unused
from ..choices import CROSS_ENTROPIES, GeneratorLoss
from ..errors import UserError

# The options without a meaning where there is no discriminator.
OF_A_DISCRIMINATOR = (
    *("discriminator_norm", "discriminator_learning_rate", "gan_loss", "gradient_penalty", "gradient_penalty_weight"),
    *("weight_clip", "critic_updates", "share_fakes", "packing", "conditioning", "class_weight", "measurement"),
    *("measured_data", "minibatch_kernels", "label_smoothing", "instance_noise", "instance_noise_steps"),
    "consensus_weight",
)


@dataclass
class StabiliserArguments:
    """All are off by default."""

    generator_loss: GeneratorLoss | None = field(
        default=None,
        metadata={
            "help": "In place of the generator's adversarial loss: feature_matching (mean features of the "
            "discriminator, whose own loss minimax, non_saturating and linear_logit make the same), or mmd (moment "
            "matching by kernels, without a discriminator)."
        },
    )
    mmd_bandwidths: list[float] | None = field(
        default=None,
        metadata={"help": "mmd: widths of the kernels, root mean square differences (0.05 0.1 0.2 0.5 1 2)."},
    )
    minibatch_kernels: int = field(
        default=0,
        metadata={"help": "Minibatch discrimination: how many kernels compare the samples of a batch (paper: 100)."},
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "One-sided: data count as real by 1 - this (paper: 0.1); of losses with a cross-entropy."},
    )
    instance_noise: float | None = field(
        default=None,
        metadata={
            "help": "Standard deviation at the start of noise on what the discriminator sees (images: of [-1, 1])."
        },
    )
    instance_noise_steps: int | None = field(
        default=None, metadata={"help": "Step at which --instance_noise has fallen to 0, linearly."}
    )
    consensus_weight: float | None = field(
        default=None,
        metadata={"help": "gamma of consensus optimisation (paper: 10): both networks step at once, see docs."},
    )


def check_stabilisers(args: Any, saved: bool) -> None:
    """Refuse options that are impossible, or that other options of the family exclude.

    Args:
        args: The options of family `gan`, of a model with a discriminator.
        saved: The networks are saved ones, whose options can no longer be changed.

    Raises:
        UserError: One line that names the options.
    """
    check_minimums(args, minibatch_kernels=0, instance_noise_steps=1, consensus_weight=0)
    check_positive(args, "instance_noise")
    check_unused(args, "without --generator_loss mmd", "mmd_bandwidths")
    if not 0 <= args.label_smoothing < 1:
        raise UserError(f"--label_smoothing must be at least 0 and below 1, got {args.label_smoothing}")
    if args.label_smoothing and args.gan_loss not in CROSS_ENTROPIES:
        raise UserError(
            f"--label_smoothing needs a loss with labels, and --gan_loss {args.gan_loss} has none; choose one of "
            f"{', '.join(CROSS_ENTROPIES)}"
        )
    if (args.instance_noise is None) != (args.instance_noise_steps is None):
        given, other = "instance_noise", "instance_noise_steps"
        if args.instance_noise is None:
            given, other = other, given
        raise UserError(
            f"--{given} needs --{other}: noise begins with a deviation and falls to 0 by a step; give both"
        )
    if args.minibatch_kernels and args.gradient_penalty != "none":
        culprit = "the saved discriminator's minibatch discrimination" if saved else "--minibatch_kernels"
        raise UserError(
            f"{culprit} and --gradient_penalty {args.gradient_penalty} exclude each other: a logit must depend on its "
            "own sample alone; drop one of them"
        )
    if args.consensus_weight is not None:
        where = "with --consensus_weight, by which both networks step at once"
        check_unused(args, where, "gradient_penalty", "weight_clip", "critic_updates", "share_fakes")


def check_bandwidths(bandwidths: list[float] | None) -> None:
    """Refuse kernels without a width.

    Raises:
        UserError: One line that names the option.
    """
    if bandwidths is not None and (not bandwidths or min(bandwidths) <= 0):
        raise UserError(f"--mmd_bandwidths must be positive, got {' '.join(map(str, bandwidths)) or 'none'}")
