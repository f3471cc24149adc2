"""Pipeline of flow matching (rectified flow)."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from diffusers import SchedulerMixin
from torch import Tensor

from hf_genmodels.roles import Denoiser

from .guided import Predict, Step
from .noise_levels import NoiseLevelPipeline


class FlowMatchingPipeline(NoiseLevelPipeline):
    """Samples at the end of the flow whose velocity the network was taught (Lipman et al. 2023, arXiv 2210.02747).

    From noise at time 1 to the data at 0, by Euler's method (`FlowMatchEulerDiscreteScheduler`), one call of the
    network a step, or by Heun's (`FlowMatchHeunDiscreteScheduler`), two calls of all steps but the last. Euler's steps
    are equal but for the scheduler's `shift`: times 1, 1 - 1/n, ..., 1/n. The scheduler's own would end at 0.001, a
    step wasted.

    Args:
        unet: x_t, 1000 t -> velocity. It may know classes.
        scheduler: Of 1000 `num_train_timesteps`, the unit of the network's time.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: num_train_timesteps of the training; None for that of `scheduler`.
        id2label: Names of the classes by number, where it knows classes.

    Raises:
        UserError: The scheduler is of another training.
    """

    samplers = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
    of_training = ("num_train_timesteps",)

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

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise that the steps start from."""
        return 1.0

    def set_timesteps(self, steps: int) -> None:
        """Set the scheduler's steps."""
        if "sigmas" in inspect.signature(self.scheduler.set_timesteps).parameters:
            self.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        else:
            self.scheduler.set_timesteps(steps)

    def take_step(self, sample: Tensor, step: int, time: Tensor, predict: Predict, options: dict[str, Any]) -> Step:
        """One step of the scheduler, see `GuidedPipeline`."""
        timestep = self.scheduler.timesteps[step]
        velocity, _ = predict(sample, time)
        made = self.scheduler.step(velocity, timestep, sample, **options)
        return made.prev_sample, lambda: sample - time / self.scheduler.config.num_train_timesteps * velocity
