"""Pipeline of EDM models."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffusers import SchedulerMixin
from torch import Tensor

from hf_genmodels.roles import Denoiser

from .guided import Predict, Step
from .noise_levels import NoiseLevelPipeline


class EDMPipeline(NoiseLevelPipeline):
    """Samples of a network that was trained as Karras et al. 2022 (arXiv 2206.00364) say.

    Noise of standard deviation `sigma_max` is taken away down to 0, by Euler's method (`EDMEulerScheduler`) or by
    DPM-Solver++ (`EDMDPMSolverMultistepScheduler`), with one call of the network a step. The paper's own, Heun's
    method, diffusers does not have for EDM.

    Args:
        unet: F, which the scheduler's preconditioning turns into the denoiser; see `losses/noise_levels.py`. It may
            know classes. Its time is c_noise = ln(sigma) / 4.
        scheduler: With the `sigma_data` of the training.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: sigma_data and prediction_type of the training; None for those of `scheduler`.
        id2label: Names of the classes by number, where it knows classes.

    Raises:
        UserError: The scheduler is of another training.
    """

    samplers = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
    of_training = ("sigma_data", "prediction_type")

    def __init__(
        self,
        unet: Denoiser,
        scheduler: SchedulerMixin,
        value_scale: float = 255.0,
        trained_schedule: dict[str, Any] | None = None,
        id2label: dict[int, str] | None = None,
    ) -> None:
        super().__init__()
        self.set_up(value_scale, trained_schedule, id2label, unet=unet, scheduler=scheduler)

    def take_step(self, sample: Tensor, step: int, time: Tensor, predict: Predict, options: dict[str, Any]) -> Step:
        """One step of the scheduler, see `GuidedPipeline`. Guidance of F is that of the denoiser: they are affine."""
        timestep, sigma = self.scheduler.timesteps[step], self.scheduler.sigmas[step]
        prediction, _ = predict(self.scheduler.scale_model_input(sample, timestep), time)
        made = self.scheduler.step(prediction, timestep, sample, **options)
        return made.prev_sample, partial(self.scheduler.precondition_outputs, sample, prediction, sigma)
