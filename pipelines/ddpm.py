"""Pipeline of the unconditional DDPM, and the likelihood that it shares with the class-conditional one."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.dequantization import bits_per_dim
from hf_genmodels.losses.diffusion import (
    discretized_gaussian_log_likelihood,
    posterior_kl,
    predicted_sample,
    prior_kl,
    q_sample,
)
from hf_genmodels.losses.likelihood import gaussian_nll
from hf_genmodels.roles import Denoiser

from .denoising import DenoisingPipeline
from .labels import ClassLabels, match_labels


class LikelihoodPipeline(DenoisingPipeline):
    """A denoising pipeline of the data themselves, with the variational bound of their likelihood."""

    measures = frozenset({"samples", "reconstructions", "likelihood"})
    tasks = ("reconstruct", "encode", "score")
    scores = ("log_likelihood",)

    @torch.no_grad()
    def log_likelihood(
        self,
        images: Any,
        num_timesteps: int | None = None,
        class_labels: ClassLabels = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Lower bound of log p(x): minus the terms L_T, L_{T-1}, ..., L_0 of Ho et al. 2020 (arXiv 2006.11239), eq. 5.

        p is the network's DDPM with the posterior variance (eq. 7) at t > 1 and beta_1 at t = 1, where the posterior
        has none; it clips predicted samples if the scheduler's configuration has `clip_sample`. The expectation over
        x_t is one draw for each time step, so the result is random, and right on average.

        Args:
            images: PIL images, arrays or tensors.
            num_timesteps: Draws of t, evenly spread, which stand for t = 2 .. T: as many passes through the network,
                and one for L_0, which like L_T is always there. The mean over draws does not depend on it. By default
                T - 1, that is every t once.
            class_labels: Of a conditional network, for log p(x|y); by default "any class".
            generator: For the draws.

        Returns:
            (batch,) nats an image: of its grey levels (eq. 13) as `value_scale` counts them, 256 for 255; values
            between levels are rounded. For vectors, and images of floats (`value_scale` 1), of a density.

        Raises:
            UserError: The images or labels do not fit, `num_timesteps` is not 1 .. T - 1, or the network predicts
                variances, too.
        """
        if self.predicts_variances:
            channels = self.network_shape[0]
            raise UserError(
                f"log_likelihood is that of a DDPM with fixed variances, and this network predicts them too: "
                f"{2 * channels} channels for {channels}"
            )
        sample = self.to_diffused(images).reshape(-1, *self.network_shape)
        if self.num_levels is not None:
            sample = ((sample + 1) / 2 * (self.num_levels - 1)).round() / (self.num_levels - 1) * 2 - 1
        labels = self.find_labels(class_labels)
        labels = match_labels(labels, len(sample))
        trained = self.trained_schedule()
        alpha_bar = trained.alphas_cumprod.to(sample.device)
        last = len(alpha_bar) - 1
        count = last if num_timesteps is None else num_timesteps
        if num_timesteps is not None and not 1 <= num_timesteps <= last:
            raise UserError(f"num_timesteps must be 1 to {last}, the time steps after the first, got {num_timesteps}")
        first = torch.zeros(len(sample), dtype=torch.long, device=sample.device)
        bound = prior_kl(sample, alpha_bar[-1])
        predicted = self._denoise(sample, first, labels, trained, generator)
        bound = bound + self._first_term(sample, predicted, 1 - alpha_bar[0])
        for index in self.progress_bar(range(count)):
            # one draw from each of `count` equal parts of 1 .. T - 1
            place: Any = 0.0 if count == last else self.random_uniform(len(sample), generator).double()
            timesteps = first + 1 + torch.as_tensor((index + place) * last / count).long().clamp(max=last - 1)
            predicted = self._denoise(sample, timesteps, labels, trained, generator)
            term = posterior_kl(sample, predicted, alpha_bar[timesteps], alpha_bar[timesteps - 1])
            bound = bound + term * last / count
        return -bound

    def bits_per_dim(
        self,
        images: Any,
        num_timesteps: int | None = None,
        class_labels: ClassLabels = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The bound of `log_likelihood`, which explains the arguments, in bits a dimension: an upper one, (batch,)."""
        log_likelihood = self.log_likelihood(images, num_timesteps, class_labels, generator)
        return bits_per_dim(log_likelihood, torch.Size(self.sample_shape).numel())

    def _denoise(
        self,
        sample: Tensor,
        timesteps: Tensor,
        labels: Tensor | None,
        trained: DDPMScheduler,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Noise x_0 up to time steps (batch,) and predict it back, both (batch, channels, height, width)."""
        alpha_bar = trained.alphas_cumprod.to(sample.device)[timesteps]
        noise = self.random_latents(len(sample), tuple(sample.shape[1:]), generator, None, torch.float32)
        noisy = q_sample(sample, noise, alpha_bar)
        prediction = self.predict(noisy, timesteps, labels).float()
        predicted = predicted_sample(trained.config.prediction_type, prediction, noisy, alpha_bar)
        limit = trained.config.clip_sample_range
        return predicted.clamp(-limit, limit) if trained.config.clip_sample else predicted

    def _first_term(self, sample: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """-log p(x_0 | x_1), (batch,) nats."""
        log_std = 0.5 * variance.log()
        if self.num_levels is None:
            return gaussian_nll(sample, mean, log_std.expand_as(sample))
        return -discretized_gaussian_log_likelihood(sample, mean, log_std, self.num_levels)

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
