"""Pipeline of the unconditional DDPM, and the likelihood that it shares with the class-conditional one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from torch import Tensor

from hf_genmodels.choices import PredictionType
from hf_genmodels.errors import UserError
from hf_genmodels.losses.dequantization import bits_per_dim
from hf_genmodels.losses.diffusion import (
    bound_terms,
    fixed_log_variances,
    learned_log_variance,
    log_variance_bounds,
    predicted_sample,
    prior_kl,
    q_sample,
)
from hf_genmodels.roles import Denoiser

from .denoising import DenoisingPipeline
from .labels import ClassLabels, match_labels


@dataclass(frozen=True)
class ReverseProcess:
    """The steps of a DDPM whose likelihood is bounded, from the first, which ends in x_0, to the last, that of x_T.

    Attributes:
        timesteps: Of the training, (steps,) int64.
        alpha_bars: Of them, (steps,) float64.
        least: See `log_variance_bounds`, (steps,) float64, as the two others.
        greatest: Likewise.
        fixed: See `fixed_log_variances`.
        prediction_type: What the network predicts.
        limit: Where predicted samples are clipped; None where they are not.
    """

    timesteps: Tensor
    alpha_bars: Tensor
    least: Tensor
    greatest: Tensor
    fixed: Tensor
    prediction_type: PredictionType
    limit: float | None

    @classmethod
    def of(cls, trained: DDPMScheduler, num_steps: int | None, device: torch.device) -> ReverseProcess:
        """Of so many steps of a training, or all.

        Raises:
            UserError: There are not so many, or fewer than 2.
        """
        most = len(trained.betas)
        if num_steps is not None and not 2 <= num_steps <= most:
            raise UserError(
                f"num_inference_steps of a likelihood must be 2 to {most}, the steps that the model was trained with, "
                f"got {num_steps}"
            )
        timesteps = torch.linspace(0, most - 1, num_steps or most, dtype=torch.float64).round().long()
        alpha_bars = trained.alphas_cumprod.double()[timesteps]
        bounds = (*log_variance_bounds(alpha_bars), fixed_log_variances(alpha_bars))
        config: Any = trained.config
        limit = config.clip_sample_range if config.clip_sample else None
        least, greatest, fixed = (bound.to(device) for bound in bounds)
        return cls(timesteps.to(device), alpha_bars.to(device), least, greatest, fixed, config.prediction_type, limit)


class LikelihoodPipeline(DenoisingPipeline):
    """A denoising pipeline of the data themselves, with the variational bound of their likelihood."""

    measures = frozenset({"samples", "reconstructions", "likelihood"})
    tasks = ("reconstruct", "encode", "score")
    scores = ("log_likelihood",)
    likelihood_options = frozenset({"num_inference_steps"})

    @torch.no_grad()
    def noised(self, images: Any, timesteps: Any, generator: torch.Generator | None = None) -> Tensor:
        """x_t of images: what the network is shown in training (Ho et al. 2020, eq. 4), in units of the images.

        Args:
            images: PIL images, arrays or tensors.
            timesteps: Of the training, 0 (next to no noise) to T - 1: one for all images, or one for each.
            generator: For the noise.

        Returns:
            (batch, *sample_shape) float32, for images 0 black and 1 white; noise goes beyond both. Vectors as they
            are.

        Raises:
            UserError: The images do not fit, or there is no such time step.
        """
        sample, bars = self.to_diffused(images), self.trained_schedule().alphas_cumprod
        wrong = f"timesteps must be one whole number, or one for each of {len(sample)} images"
        try:
            steps = torch.as_tensor(timesteps)
        except (TypeError, ValueError, RuntimeError):
            raise UserError(wrong) from None
        no_integers = steps.is_floating_point() or steps.is_complex() or steps.dtype == torch.bool
        if no_integers or steps.ndim > 1 or steps.numel() not in (1, len(sample)):
            raise UserError(wrong)
        if steps.min() < 0 or steps.max() >= len(bars):
            raise UserError(f"timesteps must be 0 to {len(bars) - 1}, got {steps.min()} to {steps.max()}")
        noise = self.random_latents(len(sample), tuple(sample.shape[1:]), generator, None, torch.float32)
        noisy = q_sample(sample, noise, bars[steps.reshape(-1).long().cpu()])
        return (noisy + 1) / 2 if len(self.sample_shape) == 3 else noisy

    @torch.no_grad()
    def log_likelihood(
        self,
        images: Any,
        num_timesteps: int | None = None,
        class_labels: ClassLabels = None,
        generator: torch.Generator | None = None,
        num_inference_steps: int | None = None,
    ) -> Tensor:
        """Lower bound of log p(x): minus the terms L_T, L_{T-1}, ..., L_0 of Ho et al. 2020 (arXiv 2006.11239), eq. 5.

        p is the network's DDPM with the variances that it predicts (Nichol & Dhariwal 2021, arXiv 2102.09672), or else
        the posterior variance (eq. 7) at t > 1 and beta_1 at t = 1, where the posterior has none; it clips predicted
        samples if the scheduler's configuration has `clip_sample`. The expectation over x_t is one draw for each time
        step, so the result is random, and right on average.

        Args:
            images: PIL images, arrays or tensors.
            num_timesteps: Draws of t, evenly spread, which stand for t = 2 .. T: as many passes through the network,
                and one for L_0, which like L_T is always there. The mean over draws does not depend on it. By default
                T - 1, that is every t once.
            class_labels: Of a conditional network, for log p(x|y); by default "any class".
            generator: For the draws.
            num_inference_steps: T of another p, which takes as many steps, evenly spread from the first time step of
                the training to the last (`timestep_spacing="linspace"` of a DDPMScheduler); by default all. The fewer,
                the worse the bound; this is what learned variances are for (Nichol & Dhariwal, section 4).

        Returns:
            (batch,) nats an image: of its grey levels (eq. 13) as `value_scale` counts them, 256 for 255; values
            between levels are rounded. For vectors, and images of floats (`value_scale` 1), of a density. Terms are
            float64 sums; the result is float32.

        Raises:
            UserError: The images or labels do not fit, `num_inference_steps` is not 2 to those of the training, or
                `num_timesteps` not 1 .. T - 1.
        """
        sample = self.to_diffused(images).reshape(-1, *self.network_shape)
        if self.num_levels is not None:
            sample = ((sample + 1) / 2 * (self.num_levels - 1)).round() / (self.num_levels - 1) * 2 - 1
        labels = match_labels(self.find_labels(class_labels), len(sample))
        process = ReverseProcess.of(self.trained_schedule(), num_inference_steps, sample.device)
        last = len(process.timesteps) - 1
        count = last if num_timesteps is None else num_timesteps
        if num_timesteps is not None and not 1 <= num_timesteps <= last:
            raise UserError(f"num_timesteps must be 1 to {last}, the time steps after the first, got {num_timesteps}")
        first = torch.zeros(len(sample), dtype=torch.long, device=sample.device)
        bound = prior_kl(sample, process.alpha_bars[-1]) + self._term(sample, first, process, labels, generator)
        for index in self.progress_bar(range(count)):
            # one draw from each of `count` equal parts of 1 .. T - 1
            place: Any = 0.0 if count == last else self.random_uniform(len(sample), generator).double()
            steps = first + 1 + torch.as_tensor((index + place) * last / count).long().clamp(max=last - 1)
            bound = bound + self._term(sample, steps, process, labels, generator) * last / count
        return -bound.float()

    @torch.no_grad()
    def bits_per_dim(
        self,
        images: Any,
        num_timesteps: int | None = None,
        class_labels: ClassLabels = None,
        generator: torch.Generator | None = None,
        num_inference_steps: int | None = None,
    ) -> Tensor:
        """The bound of `log_likelihood`, which explains the arguments, in bits a dimension: an upper one, (batch,)."""
        found = self.log_likelihood(images, num_timesteps, class_labels, generator, num_inference_steps)
        return bits_per_dim(found, torch.Size(self.sample_shape).numel())

    def _term(
        self,
        sample: Tensor,
        steps: Tensor,
        process: ReverseProcess,
        labels: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """The bound's terms of steps (batch,) of a process for x_0 noised up to there, (batch,) nats in float64."""
        alpha_bar = process.alpha_bars[steps]
        noise = self.random_latents(len(sample), tuple(sample.shape[1:]), generator, None, torch.float32)
        noisy = q_sample(sample, noise, alpha_bar.float())
        outputs = self._predict(noisy.to(self.unet.dtype), labels, process.timesteps[steps], 1.0)
        prediction, values = (each.double() for each in outputs)
        predicted = predicted_sample(process.prediction_type, prediction, noisy.double(), alpha_bar)
        predicted = predicted if process.limit is None else predicted.clamp(-process.limit, process.limit)
        if self.predicts_variances:
            log_variance = learned_log_variance(values, process.least[steps], process.greatest[steps])
        else:
            log_variance = process.fixed[steps].reshape(-1, 1, 1, 1)
        return bound_terms(
            sample.double(), predicted, log_variance, steps, process.alpha_bars, process.least, self.num_levels
        )

    @property
    def num_levels(self) -> int | None:
        """Grey levels of the data; None for vectors, and for images of floats."""
        scale = self.config.value_scale
        return None if len(self.sample_shape) == 1 or scale == 1 else int(scale) + 1


class DDPMPipeline(LikelihoodPipeline, diffusers.DDPMPipeline):
    """Samples, DDIM codes, reconstructions and likelihoods of an unconditional DDPM.

    Plain `diffusers.DDPMPipeline` loads what this one saves, and for the same seed and number of steps gives the same
    images; this one loads diffusers' own, and those of `diffusers.DDIMPipeline` with their DDIMScheduler.

    For another sampler set `scheduler` to one made by `from_config` of this one's configuration. A DDIMScheduler then
    clips predicted samples (`clip_sample`) without correcting the noise by which it goes on, which adds up over the
    steps: make it with `clip_sample=False`.

    Args:
        unet: The denoising network; `sample_size` 1 means vectors of `in_channels` numbers.
        scheduler: Of the training (a DDPMScheduler), or another sampler made from its configuration.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        trained_schedule: Noise of the training, as a DDPMScheduler's arguments; None for that of `scheduler`.

    Raises:
        UserError: The network knows classes.
    """

    loads_from = ("DDIMPipeline",)

    def __init__(
        self,
        unet: Denoiser,
        scheduler: SchedulerMixin,
        value_scale: float = 255.0,
        trained_schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(unet=unet, scheduler=scheduler)
        self.register_to_config(value_scale=value_scale)
        self.register_schedule(trained_schedule)
        if self.num_classes is not None:
            raise UserError("DDPMPipeline: this network knows classes; use ConditionalDDPMPipeline")
