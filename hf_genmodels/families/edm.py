"""Family `edm`: its options, which of them go together, and how its networks are built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums, check_positive
from ..data.spec import DataSpec
from .base import Family, adopt_saved_options
from .denoisers import DenoiserArguments, Parts, build_networks, check_denoiser, load_networks, saved_sampler

if TYPE_CHECKING:
    from ..objectives.edm import EDMObjective


@dataclass
class EDMArguments(DenoiserArguments):
    """Options of `train_edm.py`."""

    p_mean: float = field(default=-1.2, metadata={"help": "Mean of the noise levels' logarithm, ln sigma."})
    p_std: float = field(default=1.2, metadata={"help": "Standard deviation of ln sigma."})
    sigma_data: float | None = field(
        default=None,
        metadata={"help": "Standard deviation of the data (paper: 0.5). Default: the first batch's; 1 of latents."},
    )
    edm_num_inference_steps: int = field(
        default=18, metadata={"help": "Steps of the pictures made during training, by Euler's method."}
    )


def build(args: EDMArguments, data: DataSpec) -> "EDMObjective":
    """The objective with new networks; see `Family.build`."""
    from diffusers import EDMEulerScheduler

    check_values(args)
    scheduler = EDMEulerScheduler(sigma_data=0.5 if args.sigma_data is None else args.sigma_data)
    return objective(args, build_networks(args, data), scheduler, data, args.sigma_data is None)


def reload(folder: Path, args: EDMArguments, data: DataSpec) -> "EDMObjective":
    """The objective around saved networks; see `Family.reload`. A checkpoint's do not say `sigma_data`: options do."""
    from diffusers import EDMEulerScheduler

    parts = load_networks(folder, args, data)
    check_values(args)
    scheduler = saved_sampler(EDMEulerScheduler, folder)
    if scheduler is None:
        scheduler = EDMEulerScheduler(sigma_data=0.5 if args.sigma_data is None else args.sigma_data)
        return objective(args, parts, scheduler, data, args.sigma_data is None)
    adopt_saved_options(args, {"sigma_data": scheduler.config.sigma_data})
    return objective(args, parts, scheduler, data, False)


def objective(args: EDMArguments, parts: Parts, scheduler: Any, data: DataSpec, measures_data: bool) -> "EDMObjective":
    """The objective with the options' numbers."""
    from ..objectives.edm import EDMObjective

    options = parts.options(args) | {"num_inference_steps": args.edm_num_inference_steps}
    built = EDMObjective(parts.unet, scheduler, data, args.p_mean, args.p_std, measures_data, **options)
    built.notes = parts.notes
    return built


def check_values(args: EDMArguments) -> None:
    """Refuse impossible values.

    Raises:
        UserError: One line that names the option.
    """
    check_denoiser(args)
    check_minimums(args, edm_num_inference_steps=1)
    check_positive(args, "p_std", "sigma_data")


FAMILY = Family(
    "edm",
    "Diffusion with Karras' preconditioning",
    EDMArguments,
    build,
    reload,
    "EDMPipeline",
    variants=("LatentEDMPipeline",),
)
