"""Family `score`: its options, which of them go together, and how its networks are built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums, check_positive
from ..data.spec import DataSpec
from ..errors import UserError
from .base import Family, adopt_saved_options
from .denoisers import DenoiserArguments, Parts, build_networks, check_denoiser, load_networks, saved_sampler

if TYPE_CHECKING:
    from ..objectives.score import ScoreObjective

# Before the first batch says how far the data lie apart.
UNMEASURED_SIGMA_MAX = 50.0


@dataclass
class ScoreArguments(DenoiserArguments):
    """Options of `train_score.py`."""

    sigma_min: float = field(default=0.01, metadata={"help": "Least standard deviation of the noise."})
    sigma_max: float | None = field(
        default=None,
        metadata={"help": "Greatest standard deviation of the noise. Default: greatest distance in the first batch."},
    )
    snr: float = field(
        default=0.16, metadata={"help": "Signal-to-noise ratio r of the corrector's Langevin steps, when sampling."}
    )
    correct_steps: int = field(
        default=1, metadata={"help": "Langevin steps at each noise level, when sampling; 0 for none."}
    )
    score_num_inference_steps: int = field(
        default=100, metadata={"help": "Noise levels of the pictures made during training."}
    )


def build(args: ScoreArguments, data: DataSpec) -> "ScoreObjective":
    """The objective with new networks; see `Family.build`."""
    check_values(args)
    return objective(args, build_networks(args, data), new_sampler(args), data, args.sigma_max is None)


def reload(folder: Path, args: ScoreArguments, data: DataSpec) -> "ScoreObjective":
    """The objective around saved networks; see `Family.reload`. A checkpoint's do not say the noise: options do."""
    from diffusers import ScoreSdeVeScheduler

    parts = load_networks(folder, args, data)
    scheduler = saved_sampler(ScoreSdeVeScheduler, folder)
    if scheduler is not None:
        adopt_saved_options(args, {name: scheduler.config[name] for name in ("sigma_min", "sigma_max")})
    check_values(args)
    measures_data = scheduler is None and args.sigma_max is None
    return objective(args, parts, scheduler or new_sampler(args), data, measures_data)


def new_sampler(args: ScoreArguments) -> Any:
    """Diffusers' scheduler with the options' noise levels."""
    from diffusers import ScoreSdeVeScheduler

    return ScoreSdeVeScheduler(
        snr=args.snr,
        sigma_min=args.sigma_min,
        sigma_max=UNMEASURED_SIGMA_MAX if args.sigma_max is None else args.sigma_max,
        correct_steps=args.correct_steps,
    )


def objective(
    args: ScoreArguments, parts: Parts, scheduler: Any, data: DataSpec, measures_data: bool
) -> "ScoreObjective":
    """The objective with the options' numbers."""
    from ..objectives.score import ScoreObjective

    options = parts.options(args) | {"num_inference_steps": args.score_num_inference_steps}
    built = ScoreObjective(parts.unet, scheduler, data, measures_data, **options)
    built.notes = parts.notes
    return built


def check_values(args: ScoreArguments) -> None:
    """Refuse impossible values.

    Raises:
        UserError: One line that names the option.
    """
    check_denoiser(args)
    check_minimums(args, score_num_inference_steps=2, correct_steps=0)
    check_positive(args, "sigma_min", "sigma_max", "snr")
    if args.sigma_max is not None and not args.sigma_max > args.sigma_min:
        raise UserError(f"--sigma_max must be above --sigma_min {args.sigma_min}, got {args.sigma_max}")


FAMILY = Family(
    "score",
    "Score model (noise of exploding variance)",
    ScoreArguments,
    build,
    reload,
    "ScorePipeline",
    variants=("LatentScorePipeline",),
)
