"""Pipeline of denoising diffusion GANs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.diffusion import variance_preserving_betas
from hf_genmodels.roles import StochasticDenoiser

from .base import GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .iterative import IterativePipeline, StepCallback

# What the scheduler must be, for its step to be a draw from q(x_{t-1} | x_t, x_0).
OF_TRAINING = {
    "prediction_type": "sample",
    "variance_type": "fixed_small",
    "clip_sample": False,
    "thresholding": False,
    "steps_offset": 0,
}


class DiffusionGANPipeline(IterativePipeline):
    """Samples in the few large steps of a denoising diffusion GAN (Xiao et al. 2022, arXiv 2112.07804).

    In each step the generator guesses x_0 from x_t and fresh latents z, and x_{t-1} is a draw from q(x_{t-1} | x_t,
    x_0). The steps are those of the training: other numbers of steps, or samplers, would show the generator noise that
    it does not know.

    Args:
        generator: x_t, t - 1, z -> x_0.
        scheduler: Of the training, of `prediction_type` "sample".
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.

    Raises:
        UserError: The scheduler is of another kind of training.
    """

    model_cpu_offload_seq = "generator"
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "denoised"]
    generator: Any
    scheduler: Any

    def __init__(self, generator: StochasticDenoiser, scheduler: DDPMScheduler, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(generator=generator, scheduler=scheduler)
        self.register_to_config(value_scale=value_scale)
        check_scheduler(scheduler)
        self._num_steps: int = self.scheduler.config.num_train_timesteps

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples, in as many steps as the training had.

        Args:
            batch_size: How many; by default one for each of `latents`, or 1.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone.
            latents: The noise x_T that the steps begin with, (batch, *sample_shape), instead of a random one; each
                step draws more.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            callback_on_step_end: Called after each step, see `IterativePipeline`. "latents" are x_{t-1}, "denoised" is
                the generator's x_0, both (batch, *sample_shape).
            callback_on_step_end_tensor_inputs: Which of the two it gets.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Raises:
            UserError: The arguments' shapes do not fit, the scheduler is of another training, or samples are not
                finite.
        """
        check_scheduler(self.scheduler, self._num_steps)
        names = self.start_steps(callback_on_step_end, callback_on_step_end_tensor_inputs)
        if latents is not None:
            batch_size = len(latents)
        elif batch_size is None:
            batch_size = 1
        latent_dim = self.generator.config.latent_dim
        noisy = self.random_latents(batch_size, self.sample_shape, generator, latents, torch.float32)
        self.scheduler.set_timesteps(self.scheduler.config.num_train_timesteps)
        for step, timestep in enumerate(self.scheduler.timesteps):
            codes = self.random_latents(batch_size, (latent_dim,), generator, None, torch.float32)
            denoised = self._denoise(noisy, timestep, codes, max_batch_size)
            noisy = self.scheduler.step(denoised, timestep, noisy, generator=generator).prev_sample
            if callback_on_step_end is not None:
                tensors = {"latents": noisy, "denoised": denoised}
                noisy = self.end_step(callback_on_step_end, names, step, timestep, tensors)["latents"]
            if self.interrupt:
                break
        if not noisy.isfinite().all():
            raise UserError(
                "samples are not finite: the network's weights hold NaN or infinite numbers; load or train them anew"
            )
        return self.finish(noisy, output_type, return_dict)

    def _denoise(self, noisy: Tensor, timestep: Tensor, codes: Tensor, max_batch_size: int | None) -> Tensor:
        """The generator's x_0 in float32, so that what is drawn does not depend on its precision."""
        time = timestep.to(noisy.device)

        def make(noisy: Tensor, codes: Tensor) -> Tensor:
            sample: Tensor = self.generator(noisy.to(self.dtype), time, codes.to(self.dtype)).sample
            return sample.float()

        made: Tensor = in_chunks(make, max_batch_size, noisy, codes)
        return made


def check_scheduler(scheduler: Any, num_steps: int | None = None) -> None:
    """Refuse a scheduler whose steps are others than those of a training.

    Args:
        scheduler: Of a pipeline.
        num_steps: Of the training, where that is known.

    Raises:
        UserError: It is one.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if not isinstance(scheduler, DDPMScheduler):
        raise UserError(f"a DiffusionGANPipeline takes the DDPMScheduler that it was saved with, not a {name}")
    for entry, value in (OF_TRAINING | ({} if num_steps is None else {"num_train_timesteps": num_steps})).items():
        if config[entry] != value:
            raise UserError(
                f"the {name} has {entry} {config[entry]!r}, and a DiffusionGANPipeline takes {value!r}: use the one "
                "that it was saved with"
            )
    betas = torch.tensor(variance_preserving_betas(config.num_train_timesteps))
    if scheduler.betas.shape != betas.shape or not torch.allclose(scheduler.betas.cpu(), betas):
        raise UserError(
            f"the {name} has other betas than a DiffusionGANPipeline of {len(betas)} steps was trained with: use the "
            "one that it was saved with"
        )
