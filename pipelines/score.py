"""Pipeline of score models whose noise explodes."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from hf_genmodels.losses.noise_levels import langevin_step_size, score_input, score_of
from hf_genmodels.roles import Denoiser

from .guided import Predict, Step
from .noise_levels import NoiseLevelPipeline


class ScorePipeline(NoiseLevelPipeline):
    """Samples by the reverse of a diffusion whose variance explodes (Song et al. 2021, arXiv 2011.13456).

    From noise of standard deviation `sigma_max`, down geometric levels to `sigma_min`. At each, `correct_steps`
    Langevin steps with signal-to-noise ratio `snr` first (corrector, algorithm 4), then one step of the reverse
    diffusion (predictor, algorithm 2): `correct_steps` + 1 calls of the network. The last step adds no noise. All four
    are of the scheduler's configuration; `from_config(pipe.scheduler.config, correct_steps=0)` has no corrector.

    The predictor is the scheduler's; the corrector's step is `losses.noise_levels.langevin_step_size`, which depends
    on the level alone, in place of the scheduler's, which depends on all samples of the batch.

    Args:
        unet: F of `losses.noise_levels.score_of`, which makes the score of it. It may know classes. Its time is
            ln(sigma) / 4.
        scheduler: A `ScoreSdeVeScheduler`.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: {}: any levels may be sampled.
        id2label: Names of the classes by number, where it knows classes.

    Raises:
        UserError: The scheduler is of another training.
    """

    samplers = ("ScoreSdeVeScheduler",)
    least_steps = 2

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

    def set_timesteps(self, steps: int) -> None:
        """Set the scheduler's steps."""
        self.scheduler.set_timesteps(steps)
        self.scheduler.set_sigmas(steps)

    def network_times(self) -> Tensor:
        """The standard deviation of each step's noise, from the greatest; the network is told its logarithm."""
        sigmas: Tensor = self.scheduler.discrete_sigmas.flip(0)
        return sigmas

    def take_step(self, sample: Tensor, step: int, time: Tensor, predict: Predict, options: dict[str, Any]) -> Step:
        """The corrector's steps and the predictor's, see `GuidedPipeline`."""
        generator = options["generator"]

        def score_at(noisy: Tensor) -> Tensor:
            return score_of(predict(score_input(noisy, time), time.log() / 4)[0], time)

        size = langevin_step_size(time, self.scheduler.config.snr)
        for _ in range(self.scheduler.config.correct_steps):
            noise = randn_tensor(sample.shape, generator=generator, device=sample.device)
            sample = sample + size * score_at(sample) + torch.sqrt(2 * size) * noise
        score = score_at(sample)
        made = self.scheduler.step_pred(score, self.scheduler.timesteps[step], sample, generator=generator)
        is_last = step == len(self.scheduler.timesteps) - 1
        start = sample
        return made.prev_sample_mean if is_last else made.prev_sample, lambda: start + time.square() * score
