"""Inverse problems with a diffusion model as the prior: images that explain a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, SchedulerMixin
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.diffusion import predicted_sample
from hf_genmodels.operators import Inpainting, LinearOperator, MeasurementOperator
from hf_genmodels.roles import Denoiser
from hf_genmodels.sizes import height_width, sample_shape

from .base import GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .images import SampleShape, to_network
from .iterative import IterativePipeline, StepCallback
from .noise_schedules import ddim_of, schedule_to_keep, set_timesteps, training_scheduler

DEFAULT_STEPS = 100
METHODS = ("dps", "pigdm")
# See `InverseProblemPipeline`: of the gradient of |y - A(x0_hat)|^2, and in units of [-1, 1].
LONGEST_STEP = 0.5
PRIOR_STD = 0.25


@dataclass
class InverseProblemOutput(GenerativePipelineOutput):
    """Posterior samples.

    Args:
        images: As of every pipeline.
        consistency_error: (batch,) root mean square of A(x) - y, in the units of [0, 1], of each image.
    """

    consistency_error: Tensor


class InverseProblemPipeline(IterativePipeline):
    """Samples of p(image | measurement) for a known measurement operator, with an unconditional DDPM as the prior.

    Two methods guide the sampler by how badly the denoised image x0_hat explains the measurement y, differentiated
    through the UNet:

    - "dps", diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687, algorithm 1): any differentiable
      operator. After each step, x moves against the gradient of |y - A(x0_hat)|^2 by `step_size` / |y - A(x0_hat)|.
    - "pigdm", pseudo-inverse guidance (Song et al. 2023, "Pseudoinverse-guided diffusion models for inverse problems",
      ICLR, eq. 7): linear operators, with noise of known size. p(x0 | x_t) is taken for N(x0_hat, r_t^2 I), so that
      the score of the measurement is the vector-Jacobian product of x0_hat with A^T (r_t^2 A A^T + noise_std^2 I)^-1
      (y - A x0_hat). With r_t^2 = s^2 (1 - alpha-bar_t) / (s^2 alpha-bar_t + 1 - alpha-bar_t) it is exact for data
      N(m, s^2 I). The paper takes s = 1, `prior_std` here.

    Both use ancestral sampling on a subsequence of the timesteps, which is DDIM with eta = 1 (Song et al. 2021, arXiv
    2010.02502, eq. 16). The subsequence is that of the scheduler's `timestep_spacing`; of the scheduler only the
    configuration is used (noise levels, prediction type, clipping of x0_hat), so any that can be turned into a
    `DDIMScheduler` will do, and a solver's order makes no difference.

    Where this differs from the papers: all but the measurement is in units of [-1, 1], as in the paper of "dps", whose
    code takes half of the step that its algorithm 1 prints. A step of "dps" is at most half the gradient of the
    squared residual (divided by A's squared gain), which would remove the residual if the denoiser were the identity;
    without that limit the last samples jump around the measurement by `step_size`. "pigdm" moves x0_hat as Tweedie's
    formula says, by (1 - alpha-bar_t) / sqrt(alpha-bar_t) times the score, instead of adding r_t^2 sqrt(alpha-bar_t)
    times the score after the DDIM step: samples are those of Bayes' rule where the Gaussian is right. A default s
    below 1 makes up for r_t^2 that is too great for images, whose pixels are anything but independent.

    Args:
        unet: Of an unconditional DDPM of images.
        scheduler: It was trained with, or one that was made from its configuration.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: Noise of the training, as a DDPMScheduler's arguments; None for that of `scheduler`.

    Raises:
        UserError: The UNet is conditional, of vectors, or predicts variances; or the scheduler is none of a DDPM.
    """

    measures = frozenset()
    model_cpu_offload_seq = "unet"
    loads_from = ("DDPMPipeline", "DDIMPipeline")
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "denoised"]
    unet: Denoiser
    scheduler: SchedulerMixin

    def __init__(
        self,
        unet: Denoiser,
        scheduler: SchedulerMixin,
        value_scale: float = 255.0,
        trained_schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        _check_unet(unet)
        if DDIMScheduler not in scheduler.compatibles:
            raise UserError(f"a {type(scheduler).__name__} has other noise levels than a DDPM; give a DDPMScheduler")
        self.register_to_config(
            value_scale=value_scale, trained_schedule=schedule_to_keep(scheduler, trained_schedule)
        )

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **overrides: Any) -> InverseProblemPipeline:
        """A pipeline with the components of a DDPM's, ours or diffusers'; nothing is copied.

        Args:
            pipeline: `DDPMPipeline` or `DDIMPipeline`.
            overrides: Constructor's arguments to use instead.

        Raises:
            UserError: It is another pipeline.
        """
        if type(pipeline).__name__ not in (cls.__name__, *cls.loads_from):
            raise UserError(
                f"{cls.__name__} is made from a {' or '.join(cls.loads_from)}, not a {type(pipeline).__name__}"
            )
        settings = {key: pipeline.config[key] for key in ("value_scale", "trained_schedule") if key in pipeline.config}
        return cls(**{**pipeline.components, **settings, **overrides})

    @property
    def sample_shape(self) -> SampleShape:
        return sample_shape(self.unet.config.in_channels, self.unet.config.sample_size)

    @torch.no_grad()
    def __call__(
        self,
        measurement: Any,
        operator: MeasurementOperator,
        method: str = "dps",
        num_samples: int = 1,
        num_inference_steps: int | None = None,
        step_size: float = 1.0,
        noise_std: float = 0.0,
        prior_std: float | None = None,
        generator: Generators = None,
        output_type: str | None = None,
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_batch_size: int | None = None,
    ) -> InverseProblemOutput | tuple[Any, Tensor]:
        """Images that explain measurements.

        Args:
            measurement: y, in the units of the operator's output. A tensor ([n,] channels, height, width), of any
                values since noise leads out of [0, 1]; or PIL images and arrays as for `images.to_network`.
            operator: A, of images in [0, 1].
            method: "dps" or "pigdm".
            num_samples: Posterior samples for each measurement.
            num_inference_steps: Steps of the sampler, each a forward and a backward pass of the UNet; 100 by default,
                or as many as the model was trained with if that is less.
            step_size: zeta of "dps"; of "pigdm" a factor of the measurement's score, 1 being Bayes' rule.
            noise_std: Standard deviation of the measurement's noise, for "pigdm" alone: "dps" has its step size.
            prior_std: s of "pigdm", in units of [-1, 1], 0.25 by default; a smaller one trusts y earlier.
            generator: One for all, or a sequence with one for each image that is returned.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return an `InverseProblemOutput` instead of a tuple.
            callback_on_step_end: Called after each step, see `IterativePipeline`. "latents" are x_t after the step,
                "denoised" is the x_0 that the step went to, both (n * num_samples, channels, height, width);
                `pipe.finish(denoised)` shows the latter.
            callback_on_step_end_tensor_inputs: Which of the two it gets.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Returns:
            n * num_samples images, those of the first measurement first, and their consistency errors.

        Raises:
            UserError: The measurement does not fit the operator, or that the model; or another argument is impossible.
        """
        problem = _Problem(operator, method, step_size, noise_std, prior_std)
        operator.check_image_shape(self.sample_shape, "the model makes")
        target = self._prepare_measurement(measurement, operator.measurement_shape(self.sample_shape))
        if isinstance(operator, Inpainting):
            target = operator(target)  # a damaged picture has something where nothing is known
        target = target.repeat_interleave(num_samples, dim=0)
        # of our own: the pipeline's scheduler may be shared, or another solver
        ddim = ddim_of(self.scheduler, training_scheduler(self.config.trained_schedule))
        noise_levels = self._noise_levels(ddim, num_inference_steps)
        sample = self.random_latents(len(target), self.sample_shape, generator, None, torch.float32)
        names = self.start_steps(callback_on_step_end, callback_on_step_end_tensor_inputs)
        with _frozen(self.unet):
            for step, (timestep, alpha_bar, next_alpha_bar) in enumerate(self.progress_bar(noise_levels)):
                guide = partial(
                    self._guide, timestep=timestep, alpha_bar=alpha_bar, config=ddim.config, problem=problem
                )
                denoised, shift = in_chunks(guide, max_batch_size, sample, target)
                noise = self.random_latents(len(target), self.sample_shape, generator, None, torch.float32)
                sample = _step(sample, denoised, noise, alpha_bar, next_alpha_bar) + shift
                if callback_on_step_end is not None:
                    tensors = {"latents": sample, "denoised": denoised}
                    sample = self.end_step(callback_on_step_end, names, step, timestep, tensors)["latents"]
                if self.interrupt:
                    break
        image = ((sample + 1) / 2).clamp(0, 1)
        errors = (operator(image) - target).square().flatten(1).mean(1).sqrt()
        (images,) = self.finish(sample, output_type, False)
        return InverseProblemOutput(images=images, consistency_error=errors) if return_dict else (images, errors)

    def _prepare_measurement(self, measurement: Any, shape: SampleShape) -> Tensor:
        """User's measurements -> (n, *shape) float32 on this pipeline's device."""
        if not isinstance(measurement, Tensor):
            try:
                measurement = (to_network(measurement, shape, self.config.value_scale) + 1) / 2
            except UserError as error:
                raise UserError(
                    f"measurement: {error} (here the network's images are the operator's output)"
                ) from None
        batch = measurement if measurement.ndim == 4 else measurement[None]
        if tuple(batch.shape[1:]) != shape or not len(batch):
            raise UserError(
                f"measurement must be ([n,] {', '.join(map(str, shape))}), which the operator makes of the model's "
                f"images, got {tuple(measurement.shape)}"
            )
        if not batch.isfinite().all():
            raise UserError("measurement: there are values that are not finite")
        return batch.to(self._execution_device, torch.float32)

    def _noise_levels(self, ddim: DDIMScheduler, num_inference_steps: int | None) -> list[tuple[int, Tensor, Tensor]]:
        """Of each step the timestep, alpha-bar there, and alpha-bar where it leads."""
        longest = ddim.config.num_train_timesteps
        num_inference_steps = min(DEFAULT_STEPS, longest) if num_inference_steps is None else num_inference_steps
        if not 1 <= num_inference_steps <= longest:
            raise UserError(
                f"num_inference_steps must be 1 to {longest} (num_train_timesteps), got {num_inference_steps}"
            )
        set_timesteps(ddim, num_inference_steps)
        alpha_bars = [*ddim.alphas_cumprod[ddim.timesteps], torch.tensor(1.0)]
        return list(zip(ddim.timesteps.tolist(), alpha_bars, alpha_bars[1:], strict=False))

    def _guide(
        self, sample: Tensor, target: Tensor, *, timestep: int, alpha_bar: Tensor, config: Any, problem: _Problem
    ) -> tuple[Tensor, Tensor]:
        """The denoised image that a step goes to, and what to add after the step; `config` is the scheduler's."""
        with torch.enable_grad():
            sample = sample.detach().requires_grad_()
            prediction = self.unet(sample.to(self.unet.dtype), timestep).sample.float()
            denoised = _clip(predicted_sample(config.prediction_type, prediction, sample, alpha_bar), config)
            # of images in [-1, 1], twice that of images in [0, 1]
            residual = 2 * (target - problem.operator((denoised + 1) / 2))
            if problem.method == "dps":
                (gradient,) = torch.autograd.grad(residual.square().sum(), sample)
                length = problem.step_size / residual.detach().flatten(1).norm(dim=1)
                length = length.clamp(max=LONGEST_STEP / problem.operator.squared_gain)
                return denoised.detach(), -length.view(-1, 1, 1, 1) * gradient
            variance = problem.denoised_variance(alpha_bar.item())
            direction = problem.operator.pseudo_inverse(residual.detach(), (2 * problem.noise_std) ** 2 / variance)
            (gradient,) = torch.autograd.grad(denoised, sample, direction)
        weight = problem.step_size * (1 - alpha_bar) / alpha_bar.sqrt() / variance
        return _clip(denoised.detach() + weight * gradient, config), torch.zeros_like(gradient)


@dataclass(frozen=True)
class _Problem:
    """How to guide, checked."""

    operator: Any
    method: str
    step_size: float
    noise_std: float
    prior_std: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.operator, MeasurementOperator):
            raise UserError(f"operator must be one of hf_genmodels.operators, got {type(self.operator).__name__}")
        if self.method not in METHODS:
            raise UserError(f"method must be 'dps' or 'pigdm', got {self.method!r}")
        if self.method == "pigdm" and not isinstance(self.operator, LinearOperator):
            raise UserError(
                f"method 'pigdm' needs a linear operator, {type(self.operator).__name__} is none; use 'dps'"
            )
        if self.method == "dps" and (self.noise_std or self.prior_std is not None):
            raise UserError("noise_std and prior_std are for method 'pigdm'; of 'dps' choose step_size")
        if not self.noise_std >= 0:
            raise UserError(f"noise_std must be at least 0, got {self.noise_std}")
        for name in ("step_size", "prior_std"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} must be above 0, got {value}")

    def denoised_variance(self, alpha_bar: float) -> float:
        """r_t^2 of "pigdm"."""
        variance = (self.prior_std or PRIOR_STD) ** 2
        return variance * (1 - alpha_bar) / (variance * alpha_bar + 1 - alpha_bar)


def _clip(denoised: Tensor, config: Any) -> Tensor:
    """What the scheduler does to x0_hat."""
    limit = config.clip_sample_range
    return denoised.clamp(-limit, limit) if config.clip_sample else denoised


def _step(sample: Tensor, denoised: Tensor, noise: Tensor, alpha_bar: Tensor, next_alpha_bar: Tensor) -> Tensor:
    """A draw from q(x_s | x_t, x0), s < t (Ho et al. 2020, arXiv 2006.11239, eq. 6 and 7, where s is t - 1)."""
    kept, left, next_left = alpha_bar / next_alpha_bar, 1 - alpha_bar, 1 - next_alpha_bar
    mean = (next_alpha_bar**0.5 * (1 - kept) * denoised + kept**0.5 * next_left * sample) / left
    return mean + (next_left * (1 - kept) / left) ** 0.5 * noise


@contextmanager
def _frozen(unet: Denoiser) -> Iterator[None]:
    """No gradients of the weights in here, and nothing kept for them: those of the input alone are wanted."""
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _check_unet(unet: Denoiser) -> None:
    config = unet.config
    if config.get("num_class_embeds") is not None or config.get("class_embed_type") is not None:
        raise UserError("InverseProblemPipeline needs an unconditional UNet, this one is class-conditional")
    if config.sample_size is None or height_width(config.sample_size) == (1, 1):
        raise UserError(
            f"InverseProblemPipeline needs a UNet of images, this one has sample_size {config.sample_size}"
        )
    if config.out_channels != config.in_channels:
        raise UserError(
            f"InverseProblemPipeline needs a UNet with as many output as input channels, this one has "
            f"{config.out_channels} and {config.in_channels}"
        )
