"""Family `ddpm`: its options, which of them go together, and how its networks are built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_minimums, check_positive, check_unused
from ..choices import DDPMLoss, PredictionType
from ..data.spec import DataSpec
from ..errors import UserError
from ..files import read_json
from .base import Family, adopt_saved_options
from .denoisers import (
    DenoiserArguments,
    Parts,
    build_networks,
    build_scheduler,
    check_denoiser,
    load_networks,
    load_scheduler,
    saved_scheduler_options,
)

if TYPE_CHECKING:
    from ..objectives.ddpm import DDPMObjective


@dataclass
class DDPMArguments(DenoiserArguments):
    """Options of `train_ddpm.py`; where diffusers' `train_unconditional` has them, with its names."""

    prediction_type: PredictionType | None = field(
        default=None,
        metadata={
            "help": "What the network predicts: the noise, the sample, or v (Salimans & Ho 2022). Default: the noise "
            "of images, v of vectors and latents, which cannot be clipped."
        },
    )
    ddpm_num_steps: int = field(default=1000, metadata={"help": "T, time steps from a sample to noise."})
    ddpm_beta_schedule: Literal["linear", "squaredcos_cap_v2", "scaled_linear", "sigmoid", "laplace"] = field(
        default="linear",
        metadata={
            "help": "Variances: linear (Ho et al. 2020), cosine (Nichol & Dhariwal 2021), or what else diffusers' "
            "DDPMScheduler knows."
        },
    )
    ddpm_num_inference_steps: int = field(
        default=50, metadata={"help": "DDIM steps of the pictures made during training; at most --ddpm_num_steps."}
    )
    snr_gamma: float | None = field(
        default=None, metadata={"help": "gamma of the min-SNR weights (paper: 5); by default all weights are 1."}
    )
    ddpm_variance_type: Literal["fixed_small", "learned_range"] = field(
        default="fixed_small",
        metadata={
            "help": "Variances of the reverse steps: the posterior's (Ho et al. 2020), or where the network says "
            "between it and the forward step's (Nichol & Dhariwal 2021); diffusers' names."
        },
    )
    ddpm_loss: DDPMLoss | None = field(
        default=None,
        metadata={
            "help": "simple: mean squared error of the prediction; hybrid: plus 0.001 times the variational bound, "
            "to which the prediction itself is a constant; vlb: the bound. Default: simple, or hybrid for learned "
            "variances."
        },
    )

    def learns_variances(self) -> bool:
        """Whether the network gives the variance of each step, too."""
        return self.ddpm_variance_type == "learned_range"


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: DDPMArguments, data: DataSpec) -> "DDPMObjective":
    """The objective with new networks; see `Family.build`."""
    check_values(args)
    parts = build_networks(args, data)
    return objective(args, parts, build_scheduler(args, parts.is_image), data)


def reload(folder: Path, args: DDPMArguments, data: DataSpec) -> "DDPMObjective":
    """The objective around saved networks; see `Family.reload`.

    A checkpoint's networks do not say which noise they were trained with: there the options do. diffusers' first
    models have no folders: network and scheduler lie beside `model_index.json`.
    """
    parts = load_networks(folder, args, data)
    check_values(args)
    place = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    if place != folder or (folder / "scheduler_config.json").is_file():
        scheduler = load_scheduler(place, trained_schedule(folder))
        adopt_saved_options(args, saved_scheduler_options(scheduler.config))
    else:
        scheduler = build_scheduler(args, parts.is_image)
    built = objective(args, parts, scheduler, data)
    built.notes = parts.notes
    return built


def objective(args: DDPMArguments, parts: Parts, scheduler: Any, data: DataSpec) -> "DDPMObjective":
    """The objective with the options' numbers; what the network predicts is recorded among them."""
    from ..objectives.ddpm import DDPMObjective

    args.prediction_type = scheduler.config.prediction_type
    return DDPMObjective(
        parts.unet,
        scheduler,
        data,
        snr_gamma=args.snr_gamma,
        num_inference_steps=args.ddpm_num_inference_steps,
        loss=chosen_loss(args),
        **parts.options(args),
    )


def chosen_loss(args: DDPMArguments) -> DDPMLoss:
    """The loss that the options name, or that goes with the variances."""
    return args.ddpm_loss or ("hybrid" if args.learns_variances() else "simple")


def check_values(args: DDPMArguments) -> None:
    """Refuse impossible values.

    Raises:
        UserError: One line that names the option.
    """
    check_denoiser(args)
    check_minimums(args, ddpm_num_steps=2, ddpm_num_inference_steps=1)
    check_positive(args, "snr_gamma")
    is_learned, loss = args.learns_variances(), chosen_loss(args)
    if is_learned and loss == "simple":
        raise UserError(
            "--ddpm_loss simple does not teach the variances of --ddpm_variance_type learned_range; use hybrid or vlb"
        )
    if loss == "hybrid" and not is_learned:
        raise UserError("--ddpm_loss hybrid teaches variances; it goes with --ddpm_variance_type learned_range")
    if loss == "vlb":
        check_unused(args, "with --ddpm_loss vlb, which weighs time steps by itself", "snr_gamma")


# saved schedules ----------------------------------------------------------------------------------------------------


def trained_schedule(folder: Path) -> dict[str, Any]:
    """What a saved pipeline says of the noise of its training, which a sampler that it was saved with may not have."""
    index = folder / "model_index.json"
    schedule: dict[str, Any] = (read_json(index) if index.is_file() else {}).get("trained_schedule") or {}
    return schedule


FAMILY = Family(
    "ddpm",
    "Denoising diffusion probabilistic model",
    DDPMArguments,
    build,
    reload,
    "DDPMPipeline",
    variants=("ConditionalDDPMPipeline", "LatentDDPMPipeline", "InverseProblemPipeline"),
)
