"""Family `flow_matching`: its options, which of them go together, and how its networks are built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums, check_positive, check_unused
from ..choices import TimeDistribution
from ..data.spec import DataSpec
from .base import Family, adopt_saved_options
from .denoisers import DenoiserArguments, Parts, build_networks, check_denoiser, load_networks, saved_sampler

if TYPE_CHECKING:
    from ..objectives.flow_matching import FlowMatchingObjective


@dataclass
class FlowMatchingArguments(DenoiserArguments):
    """Options of `train_flow_matching.py`."""

    time_distribution: TimeDistribution = field(
        default="uniform",
        metadata={"help": "Of the times that are trained: uniform, or logit_normal (Esser et al. 2024)."},
    )
    logit_mean: float = field(
        default=0.0, metadata={"help": "logit_normal: mean of the time's logit; above 0 towards noise."}
    )
    logit_std: float = field(default=1.0, metadata={"help": "logit_normal: standard deviation of the time's logit."})
    shift: float = field(
        default=1.0,
        metadata={"help": "Move times towards noise, in training and sampling: shift t / (1 + (shift - 1) t)."},
    )
    flow_num_inference_steps: int = field(
        default=20, metadata={"help": "Steps of the pictures made during training, by Euler's method."}
    )


def build(args: FlowMatchingArguments, data: DataSpec) -> "FlowMatchingObjective":
    """The objective with new networks; see `Family.build`."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    check_values(args)
    return objective(args, build_networks(args, data), FlowMatchEulerDiscreteScheduler(shift=args.shift), data)


def reload(folder: Path, args: FlowMatchingArguments, data: DataSpec) -> "FlowMatchingObjective":
    """The objective around saved networks; see `Family.reload`. A checkpoint's do not say the shift: options do."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    parts = load_networks(folder, args, data)
    scheduler = saved_sampler(FlowMatchEulerDiscreteScheduler, folder)
    if scheduler is not None:
        adopt_saved_options(args, {"shift": scheduler.config.shift})
    check_values(args)
    return objective(args, parts, scheduler or FlowMatchEulerDiscreteScheduler(shift=args.shift), data)


def objective(args: FlowMatchingArguments, parts: Parts, scheduler: Any, data: DataSpec) -> "FlowMatchingObjective":
    """The objective with the options' numbers."""
    from ..objectives.flow_matching import FlowMatchingObjective

    options = parts.options(args) | {"num_inference_steps": args.flow_num_inference_steps}
    times = (args.time_distribution, args.logit_mean, args.logit_std)
    built = FlowMatchingObjective(parts.unet, scheduler, data, *times, **options)
    built.notes = parts.notes
    return built


def check_values(args: FlowMatchingArguments) -> None:
    """Refuse impossible values.

    Raises:
        UserError: One line that names the option.
    """
    check_denoiser(args)
    check_minimums(args, flow_num_inference_steps=1)
    check_positive(args, "shift", "logit_std")
    if args.time_distribution != "logit_normal":
        check_unused(args, f"with --time_distribution {args.time_distribution}", "logit_mean", "logit_std")


FAMILY = Family(
    "flow_matching",
    "Flow matching (rectified flow)",
    FlowMatchingArguments,
    build,
    reload,
    "FlowMatchingPipeline",
    variants=("LatentFlowMatchingPipeline",),
)
