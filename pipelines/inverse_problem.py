"""Inverse problems with a diffusion model as the prior: images that explain a measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, SchedulerMixin
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.diffusion import predicted_sample
from hf_genmodels.operators import MeasurementOperator
from hf_genmodels.roles import Denoiser, VAENetwork
from hf_genmodels.sizes import height_width, sample_shape

from .base import Generators
from .chunks import in_chunks
from .guidance_problem import GuidanceProblem
from .guided import GUIDANCE_SCALE, GuidedPipeline, Predict, Step
from .images import SampleShape
from .iterative import StepCallback
from .labels import ClassLabels, match_labels
from .measurements import (
    InverseProblemOutput,
    check_differentiable,
    consistency_error,
    prepare_measurement,
)
from .noise_schedules import ddim_of, schedule_to_keep, set_timesteps, training_scheduler
from .repaint import diffuse, keep_known, resampling_path

DEFAULT_STEPS = 100
# See `InverseProblemPipeline`: of the gradient of |y - A(x0_hat)|^2.
LONGEST_STEP = 0.5
# Of RePaint, the paper's
JUMP_LENGTH = 10
NUM_RESAMPLES = 10

# Timestep of a step, alpha-bar there, and alpha-bar where it leads.
NoiseLevel = tuple[int, Tensor, Tensor]


class InverseProblemPipeline(GuidedPipeline):
    """Samples of p(image | measurement) for a known measurement operator, with a DDPM as the prior.

    Two methods guide the sampler by how badly the denoised image x0_hat explains the measurement y, differentiated
    through the UNet:

    - "dps", diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687, algorithm 1): any differentiable
      operator. After each step, x moves against the gradient of |y - A(x0_hat)|^2 by `step_size` / |y - A(x0_hat)|.
    - "pigdm", pseudo-inverse guidance (Song et al. 2023, "Pseudoinverse-guided diffusion models for inverse problems",
      ICLR, eq. 7): linear operators, with noise of known size. p(x0 | x_t) is taken for N(x0_hat, r_t^2 I), so that
      the score of the measurement is the vector-Jacobian product of x0_hat with A^T (r_t^2 A A^T + noise_std^2 I)^-1
      (y - A x0_hat). With r_t^2 = s^2 (1 - alpha-bar_t) / (s^2 alpha-bar_t + 1 - alpha-bar_t) it is exact for data
      N(m, s^2 I). The paper takes s = 1, `prior_std` here.

    A third, for inpainting alone, differentiates nothing and keeps the known pixels exactly:

    - "repaint" (Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1): after each step the known pixels are replaced by
      their noisy version, and the sampler jumps back again and again, so that known and unknown ones come to agree.

    All use ancestral sampling on a subsequence of the timesteps, which is DDIM with eta = 1 (Song et al. 2021, arXiv
    2010.02502, eq. 16). The subsequence is that of the scheduler's `timestep_spacing`; of the scheduler only the
    configuration is used (noise levels, prediction type, clipping of x0_hat), so any that can be turned into a
    `DDIMScheduler` will do, and a solver's order makes no difference.

    A class-conditional prior takes `class_labels` and guides without a classifier; one of a VAE's latents serves
    "dps", whose gradient then goes through the VAE's decoder too.

    Where this differs from the papers: all but the measurement is in units of [-1, 1], as in the paper of "dps", whose
    code takes half of the step that its algorithm 1 prints. A step of "dps" is at most half the gradient of the
    squared residual (divided by A's squared gain), which would remove the residual if the denoiser were the identity;
    without that limit the last samples jump around the measurement by `step_size`. "pigdm" moves x0_hat as Tweedie's
    formula says, by (1 - alpha-bar_t) / sqrt(alpha-bar_t) times the score, instead of adding r_t^2 sqrt(alpha-bar_t)
    times the score after the DDIM step: samples are those of Bayes' rule where the Gaussian is right. A default s
    below 1 makes up for r_t^2 that is too great for images, whose pixels are anything but independent. "repaint" goes
    back by one draw from q(x_t | x_s) where the paper takes j single steps, which is the same law.

    Args:
        unet: Of a DDPM of images, or of a VAE's latents. Variances that it predicts too are not used.
        scheduler: It was trained with, or one that was made from its configuration.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: Noise of the training, as a DDPMScheduler's arguments; None for that of `scheduler`.
        vae: Between images and latents, of a latent DDPM.
        scaling_factor: The network denoises the VAE's latents times this number.
        id2label: Names of the classes by number, where the network knows classes.

    Raises:
        UserError: The network is of vectors or of other latents than the VAE's, or the scheduler is none of a DDPM.
    """

    measures = frozenset()
    model_cpu_offload_seq = "unet->vae"
    loads_from = ("DDPMPipeline", "DDIMPipeline", "ConditionalDDPMPipeline", "LatentDDPMPipeline")
    _optional_components: ClassVar[list[str]] = ["vae"]
    unet: Any
    scheduler: SchedulerMixin
    vae: Any

    def __init__(
        self,
        unet: Denoiser,
        scheduler: SchedulerMixin,
        value_scale: float = 255.0,
        trained_schedule: dict[str, Any] | None = None,
        vae: VAENetwork | None = None,
        scaling_factor: float = 1.0,
        id2label: dict[int, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae)
        _check_unet(unet, vae)
        if DDIMScheduler not in scheduler.compatibles:
            raise UserError(f"a {type(scheduler).__name__} has other noise levels than a DDPM; give a DDPMScheduler")
        self.register_to_config(
            value_scale=value_scale,
            trained_schedule=schedule_to_keep(scheduler, trained_schedule),
            scaling_factor=scaling_factor,
        )
        self.register_classes(id2label)

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **overrides: Any) -> InverseProblemPipeline:
        """A pipeline with the components of a DDPM's, ours or diffusers'; nothing is copied.

        Args:
            pipeline: `DDPMPipeline`, `DDIMPipeline`, `ConditionalDDPMPipeline` or `LatentDDPMPipeline`.
            overrides: Constructor's arguments to use instead.

        Raises:
            UserError: It is another pipeline.
        """
        if type(pipeline).__name__ not in (cls.__name__, *cls.loads_from):
            raise UserError(
                f"{cls.__name__} is made from a {', '.join(cls.loads_from[:-1])} or {cls.loads_from[-1]}, not a "
                f"{type(pipeline).__name__}"
            )
        names = ("value_scale", "trained_schedule", "scaling_factor", "id2label")
        settings = {key: pipeline.config[key] for key in names if key in pipeline.config}
        return cls(**{**pipeline.components, **settings, **overrides})

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one image, (channels, height, width)."""
        config = (self.unet if self.vae is None else self.vae).config
        return sample_shape(config.in_channels, config.sample_size)

    def from_diffused(self, diffused: Tensor) -> Tensor:
        """(batch, *latent_shape) -> images in [-1, 1], of a latent DDPM the VAE's means of p(x|z)."""
        if self.vae is None:
            return diffused
        decoded: Tensor = self.vae.decode((diffused / self.config.scaling_factor).to(self.vae.dtype))
        return decoded.float()

    def take_step(self, sample: Tensor, step: int, time: Tensor, predict: Predict, options: dict[str, Any]) -> Step:
        """Refused: a step needs the measurement, which a call has.

        Raises:
            UserError: In any case.
        """
        raise UserError("an InverseProblemPipeline takes no step without a measurement: call it with one")

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
        class_labels: ClassLabels = None,
        guidance_scale: float | None = None,
        jump_length: int | None = None,
        num_resamples: int | None = None,
    ) -> InverseProblemOutput | tuple[Any, Tensor]:
        """Images that explain measurements.

        Args:
            measurement: y, in the units of the operator's output. A tensor ([n,] channels, height, width), of any
                values since noise leads out of [0, 1]; or PIL images and arrays as for `images.to_network`.
            operator: A, of images in [0, 1].
            method: "dps", "pigdm" or "repaint".
            num_samples: Posterior samples for each measurement.
            num_inference_steps: Steps of the sampler, each a forward and, but for "repaint", a backward pass of the
                UNet; 100 by default, or as many as the model was trained with if that is less.
            step_size: zeta of "dps"; of "pigdm" a factor of the measurement's score, 1 being Bayes' rule.
            noise_std: Standard deviation of the measurement's noise, for "pigdm" alone: "dps" has its step size.
            prior_std: s of "pigdm", in units of [-1, 1], 0.25 by default; a smaller one trusts y earlier.
            generator: One for all, or a sequence with one for each image that is returned.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return an `InverseProblemOutput` instead of a tuple.
            callback_on_step_end: Called after each step, see `IterativePipeline`. "latents" are x_t after the step,
                "denoised" is the x_0 that the step went to, both (n * num_samples, *latent_shape);
                `pipe.finish(pipe.from_diffused(denoised))` shows the latter.
            callback_on_step_end_tensor_inputs: Which of the two it gets.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.
            class_labels: Of a conditional prior, one for all or one for each measurement; "any class" by default.
            guidance_scale: Of a conditional prior with `class_labels`, 2 by default; 1 for none.
            jump_length: j of "repaint", how many steps it jumps back; 10 by default.
            num_resamples: r of "repaint", how often it takes each stretch of j steps; 10 by default. About that many
                times `num_inference_steps` passes are taken.

        Returns:
            n * num_samples images, those of the first measurement first, and their consistency errors.

        Raises:
            UserError: The measurement does not fit the operator, or that the model; or another argument is impossible.
        """
        problem = GuidanceProblem(operator, method, step_size, noise_std, prior_std, jump_length, num_resamples)
        target = prepare_measurement(measurement, operator, self.sample_shape, self.config.value_scale)
        problem.check_prior(self.vae)
        target = target.to(self._execution_device)
        labels, scale = self._classes(class_labels, guidance_scale, len(target))
        labels = None if labels is None else labels.repeat_interleave(num_samples)
        target = target.repeat_interleave(num_samples, dim=0)
        # of our own: the pipeline's scheduler may be shared, or another solver
        ddim = ddim_of(self.scheduler, training_scheduler(self.config.trained_schedule))
        noise_levels = self._noise_levels(ddim, num_inference_steps)
        names = self.start_steps(callback_on_step_end, callback_on_step_end_tensor_inputs)

        def draw() -> Tensor:
            shape = self.latent_shape
            noise = self.random_latents(len(target), shape, generator, None, torch.float32)
            return noise.reshape(-1, *self.network_shape)

        def look(step: int, timestep: int, sample: Tensor, denoised: Tensor) -> Tensor:
            if callback_on_step_end is None:
                return sample
            seen = {
                name: tensor.reshape(-1, *self.latent_shape)
                for name, tensor in (("latents", sample), ("denoised", denoised))
            }
            changed = self.end_step(callback_on_step_end, names, step, timestep, seen)["latents"]
            return changed.reshape(sample.shape)

        guide = partial(self._guide, scale=scale, config=ddim.config, problem=problem)
        run = _Run(target, labels, noise_levels, guide, draw, look, max_batch_size)
        with _frozen(self.unet, self.vae):
            sample = self._repaint(run, problem) if method == "repaint" else self._descend(run)
        sample = sample.reshape(-1, *self.latent_shape)
        image = in_chunks(self.from_diffused, max_batch_size, sample)
        errors = consistency_error(operator, ((image + 1) / 2).clamp(0, 1), target)
        (images,) = self.finish(image, output_type, False)
        return InverseProblemOutput(images=images, consistency_error=errors) if return_dict else (images, errors)

    def _classes(
        self, class_labels: ClassLabels, guidance_scale: float | None, count: int
    ) -> tuple[Tensor | None, float]:
        """Labels of `count` measurements, None for "any class", and the guidance's scale."""
        labels = match_labels(self.find_labels(class_labels), count)
        if guidance_scale is None:
            return labels, 1.0 if labels is None else GUIDANCE_SCALE
        if self.num_classes is None:
            raise UserError("guidance_scale: the model was trained without classes (num_class_embeds is None)")
        if labels is None:
            raise UserError("guidance_scale leads towards a class: give class_labels too")
        return labels, guidance_scale

    def _noise_levels(self, ddim: DDIMScheduler, num_inference_steps: int | None) -> list[NoiseLevel]:
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

    def _descend(self, run: _Run) -> Tensor:
        """The sampler with a guided step at each noise level."""
        sample = run.draw()
        for step, (timestep, alpha_bar, next_alpha_bar) in enumerate(self.progress_bar(run.noise_levels)):
            guide = partial(run.guide, timestep=timestep, alpha_bar=alpha_bar)
            denoised, shift = in_chunks(guide, run.max_batch_size, sample, run.target, run.labels)
            sample = _step(sample, denoised, run.draw(), alpha_bar, next_alpha_bar) + shift
            sample = run.look(step, timestep, sample, denoised)
            if self.interrupt:
                break
        return sample

    def _repaint(self, run: _Run, problem: GuidanceProblem) -> Tensor:
        """The sampler that puts the known pixels back after each step, and goes to and fro between noise levels."""
        count, mask, known = len(run.noise_levels), problem.operator.mask, 2 * run.target - 1
        jump_length, num_resamples = problem.jump_length or JUMP_LENGTH, problem.num_resamples or NUM_RESAMPLES
        if num_resamples > 1 and jump_length >= count:
            raise UserError(
                f"jump_length {jump_length} must be below the {count} steps of method 'repaint', which would resample "
                "nothing; take more steps, a shorter jump, or num_resamples=1"
            )
        path = resampling_path(count, jump_length, num_resamples)
        moves = list(pairwise(path))
        sample = denoised = run.draw()
        for step, (left, next_left) in enumerate(self.progress_bar(moves)):
            if next_left > left:
                cleaner = run.noise_levels[count - left - 1][2]
                sample = diffuse(sample, run.draw(), cleaner, run.noise_levels[count - next_left][1])
                continue
            timestep, alpha_bar, next_alpha_bar = run.noise_levels[count - left]
            guide = partial(run.guide, timestep=timestep, alpha_bar=alpha_bar)
            denoised, _ = in_chunks(guide, run.max_batch_size, sample, run.target, run.labels)
            sample = _step(sample, denoised, run.draw(), alpha_bar, next_alpha_bar)
            sample = keep_known(sample, known, mask, run.draw(), next_alpha_bar)
            sample = run.look(step, timestep, sample, denoised)
            if self.interrupt:
                break
        return keep_known(sample, known, mask, torch.zeros_like(sample), torch.tensor(1.0))

    def _guide(
        self,
        sample: Tensor,
        target: Tensor,
        labels: Tensor | None,
        *,
        timestep: int,
        alpha_bar: Tensor,
        scale: float,
        config: Any,
        problem: GuidanceProblem,
    ) -> tuple[Tensor, Tensor]:
        """The denoised image that a step goes to, and what to add after the step; `config` is the scheduler's."""

        def denoise(sample: Tensor) -> Tensor:
            time = torch.tensor(timestep, device=sample.device)
            prediction = self._predict(sample.to(self.unet.dtype), labels, time, scale)[0].float()
            return _clip(predicted_sample(config.prediction_type, prediction, sample, alpha_bar), config)

        if problem.method == "repaint":
            return denoise(sample), torch.zeros_like(sample)
        with torch.enable_grad():
            sample = sample.detach().requires_grad_()
            denoised = denoise(sample)
            # of images in [-1, 1], twice that of images in [0, 1]
            image = self.from_diffused(denoised.reshape(-1, *self.latent_shape))
            measured = problem.operator((image + 1) / 2)
            check_differentiable(problem.operator, measured)
            residual = 2 * (target - measured)
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
class _Run:
    """What the loops over noise levels share; `guide` is `InverseProblemPipeline._guide` without its noise level.

    `draw` gives fresh noise, `look` shows a step's sample and denoised image to the user's callback.
    """

    target: Tensor
    labels: Tensor | None
    noise_levels: list[NoiseLevel]
    guide: Callable[..., tuple[Tensor, Tensor]]
    draw: Callable[[], Tensor]
    look: Callable[[int, int, Tensor, Tensor], Tensor]
    max_batch_size: int | None


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
def _frozen(*networks: Any) -> Iterator[None]:
    """No gradients of the weights in here, and nothing kept for them: those of the input alone are wanted."""
    parameters = [each for network in networks if network is not None for each in network.parameters()]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _check_unet(unet: Denoiser, vae: Any) -> None:
    config = unet.config
    if config.get("class_embed_type") is not None:
        raise UserError(
            f"InverseProblemPipeline needs a UNet with classes by number or without, this one has class_embed_type "
            f"{config.class_embed_type!r}"
        )
    if config.out_channels not in (config.in_channels, 2 * config.in_channels):
        raise UserError(
            f"InverseProblemPipeline needs a UNet with as many output as input channels, or twice as many, this one "
            f"has {config.out_channels} and {config.in_channels}"
        )
    is_flat = config.sample_size is None or height_width(config.sample_size) == (1, 1)
    if vae is None and is_flat:
        raise UserError(
            f"InverseProblemPipeline needs a UNet of images, this one has sample_size {config.sample_size}; one of "
            "latents needs their vae, too"
        )
    if vae is not None and (not is_flat or config.in_channels != vae.config.latent_dim):
        raise UserError(
            f"InverseProblemPipeline: the network denoises {config.in_channels} channels of sample_size "
            f"{config.sample_size}, the VAE's latents are ({vae.config.latent_dim},)"
        )
