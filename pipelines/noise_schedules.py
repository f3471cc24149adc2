"""Noise schedules of denoising networks: the training's own, and the steps that a sampler takes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler

from hf_genmodels.configs import check_types
from hf_genmodels.errors import UserError
from hf_genmodels.loading import check_noise, check_time_steps

# What of a scheduler's configuration says how a network was trained.
OF_TRAINING = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr"),
    *("prediction_type", "clip_sample", "clip_sample_range"),
)


def schedule_of(scheduler: Any) -> dict[str, Any] | None:
    """The arguments of a `DDPMScheduler` with a scheduler's noise; None of one with another kind of noise.

    Not by `from_config`, which forgets what a scheduler was given by position, such as the number of steps.
    """
    if not hasattr(scheduler, "betas"):
        return None
    config = scheduler.config
    schedule = {"clip_sample": False} | {name: config[name] for name in OF_TRAINING if name in config}
    if schedule.get("trained_betas") is not None:
        schedule["trained_betas"] = [float(beta) for beta in schedule["trained_betas"]]
    return schedule


def training_scheduler(schedule: Mapping[str, Any]) -> DDPMScheduler:
    """The scheduler of a training, from what `schedule_of` says of it.

    Raises:
        UserError: Its arguments are impossible.
    """
    check_types(Path("trained_schedule"), DDPMScheduler, schedule)
    check_time_steps("trained_schedule", schedule)
    try:
        scheduler = DDPMScheduler(**schedule)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"trained_schedule has an impossible value: {' '.join(str(error).split())}") from error
    check_noise("trained_schedule", scheduler)
    return scheduler


def schedule_to_keep(scheduler: Any, trained_schedule: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a pipeline's configuration has as the schedule of the training; None of another kind of noise.

    Args:
        scheduler: The sampler that the pipeline is made with.
        trained_schedule: As saved; None takes the sampler's.

    Raises:
        UserError: It is impossible.
    """
    schedule = schedule_of(scheduler) if trained_schedule is None else dict(trained_schedule)
    if schedule is not None:
        training_scheduler(schedule)
    return schedule


def predicts_variances(unet: Any) -> bool:
    """Whether a network predicts the variance of each step too (Nichol & Dhariwal 2021, arXiv 2102.09672)."""
    made = unet.config.get("out_channels", unet.config.in_channels)
    return bool(made == 2 * unet.config.in_channels)


def no_ddpm_schedule(scheduler: Any) -> UserError:
    """The error of a scheduler with another kind of noise."""
    return UserError(f"a {type(scheduler).__name__} is for models of another training: it has no betas")


def ddim_of(scheduler: Any, trained: DDPMScheduler) -> DDIMScheduler:
    """DDIM with a scheduler's configuration and the betas of the training, whatever they are called."""
    betas = trained.betas.tolist()
    ddim: DDIMScheduler = DDIMScheduler.from_config(
        scheduler.config, num_train_timesteps=len(betas), trained_betas=betas, rescale_betas_zero_snr=False
    )
    return ddim


def set_timesteps(scheduler: Any, num_steps: int) -> None:
    """Set a sampler's steps.

    Raises:
        UserError: It cannot do so many.
    """
    name, trained = type(scheduler).__name__, scheduler.config.num_train_timesteps
    try:
        scheduler.set_timesteps(num_steps)
    except (AssertionError, IndexError, ValueError):
        raise UserError(
            f"a {name} cannot do {num_steps} steps of a model that was trained with {trained}; "
            "try fewer num_inference_steps"
        ) from None
    if scheduler.timesteps.max() > trained - 1:
        offset = scheduler.config.get("steps_offset", 0)
        raise UserError(
            f"{num_steps} steps of a {name} with steps_offset={offset} begin after the last of the {trained} time "
            "steps of the training; try fewer num_inference_steps, or a scheduler with steps_offset=0"
        )


def advice_if_not_finite(unet: Any, scheduler: Any) -> str:
    """What to do about samples that are not finite."""
    if any(not each.isfinite().all() for each in unet.parameters()):
        return "the network's weights hold NaN or infinite numbers: load or train them anew"
    config = scheduler.config
    if config.get("rescale_betas_zero_snr") and config.prediction_type == "epsilon":
        return (
            "with rescale_betas_zero_snr the first step sees noise alone, of which a network that predicts the "
            "noise cannot tell x_0: leave that out, or train with prediction_type 'v_prediction'"
        )
    return "try fewer num_inference_steps (a DPM-Solver needs fewer than the training had), or another scheduler"


def checked_steps(number: int | None, default: int, trained: int) -> int:
    """The number of steps of a sampler, by default the lesser of `default` and those of the training.

    Raises:
        UserError: More than the training had, or none.
    """
    number = min(default, trained) if number is None else number
    if not 1 <= number <= trained:
        raise UserError(
            f"num_inference_steps must be 1 to {trained}, the steps that the model was trained with, got {number}"
        )
    return number
