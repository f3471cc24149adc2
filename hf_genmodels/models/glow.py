"""Glow (Kingma & Dhariwal 2018, arXiv 1807.03039)."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.couplings import AffineCoupling
from ..blocks.flows import FlowModel, FlowSequence, check_scale_limit, condition_dim
from ..blocks.image_flows import FlowStep, Squeeze, check_squeezable, generate_steps, zero_conv
from ..checks import check_widths
from ..errors import UserError
from ..losses.likelihood import sum_per_sample
from ..sizes import SampleSize, height_width


class Glow(FlowModel):
    """A multi-scale flow over images: at each scale a squeeze, then steps of ActNorm, 1x1 convolution and coupling.

    After each scale but the last, half of the channels leave as latents (Dinh et al. 2017, section 3.6). With
    `learned_prior`, those that leave are Gaussian given those that stay, their mean and log standard deviation
    predicted by a 3x3 convolution, and those that are left are Gaussian with a learned mean and standard deviation
    for each number, of its class where there are classes. All of it starts as the standard normal. Standardising by
    these priors is part of the network, so that all latents are standard normal.

    Of the paper's network (its section 3 and figure 2) this differs in: bounded log-scales in couplings and split
    priors (see `FlowStep`); no ActNorm inside the couplings; a table in place of the last prior's convolution of zeros
    and class embedding; no classifier on the latents.

    Args:
        in_channels: Channels of an image.
        sample_size: Its height and width, one number for a square, divisible by 2**num_scales.
        num_levels: Grey levels by which images are dequantised.
        num_classes: Classes, for a class-conditional flow.
        num_flow_steps: K, steps at each scale.
        num_scales: L.
        hidden_channels: Width of the couplings' networks.
        learned_prior: Learn the priors; False makes them standard normal.
        scale_limit: Bound of |log-scale| in couplings and in the priors of the channels that leave.
        context_dim: Numbers in a context that the networks of couplings and split priors see; None for none.

    Raises:
        UserError: A `sample_size` that cannot be halved `num_scales` times, a width or number below 1, a
            `scale_limit` that is not positive and finite, or classes without a learned prior.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize = 32,
        num_levels: int | None = 256,
        num_classes: int | None = None,
        num_flow_steps: int = 8,
        num_scales: int = 3,
        hidden_channels: int = 128,
        learned_prior: bool = True,
        scale_limit: float = 2.0,
        context_dim: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_channels", in_channels),
            ("num_flow_steps", num_flow_steps),
            ("num_scales", num_scales),
            ("hidden_channels", hidden_channels),
        ):
            check_widths(name, [value])
        check_squeezable(sample_size, num_scales)
        check_scale_limit(scale_limit)
        if num_classes is not None and not learned_prior:
            raise UserError("num_classes needs learned_prior: the prior is all that the classes condition")
        seen = condition_dim(None, context_dim)
        self.scales = nn.ModuleList()
        self.split_priors = nn.ModuleList()
        channels, (height, width) = in_channels, height_width(sample_size)
        for scale in range(num_scales):
            channels, height, width = 4 * channels, height // 2, width // 2
            steps = [FlowStep(channels, hidden_channels, scale_limit, seen) for _ in range(num_flow_steps)]
            self.scales.append(FlowSequence([Squeeze(), *steps]))
            if scale < num_scales - 1:
                if learned_prior:
                    self.split_priors.append(AffineCoupling(channels, False, zero_conv, scale_limit, seen))
                channels //= 2
        self.last_shape = (channels, height, width)
        if learned_prior:
            rows = 1 if num_classes is None else num_classes
            self.prior_mean = nn.Parameter(torch.zeros(rows, *self.last_shape))
            self.prior_log_std = nn.Parameter(torch.zeros(rows, *self.last_shape))

    def encode(self, sample: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        parts: list[Tensor] = []
        changes: list[Tensor] = []
        for index, scale in enumerate(self.scales):
            if index > 0:
                sample, leaving = sample.chunk(2, dim=1)
                if self.config.learned_prior:  # e^s x + t is standard normal where x is N(-t / e^s, 1 / e^2s)
                    prior: Any = self.split_priors[index - 1]
                    leaving, change = prior.change(sample, leaving, context)
                    changes.append(change)
                parts.append(leaving.flatten(1))
            sample, change = scale(sample, context)
            changes.append(change)
        if self.config.learned_prior:
            mean, log_std = self.last_prior(labels)
            sample = ((sample - mean) * torch.exp(-log_std)).to(sample.dtype)
            changes.append(-sum_per_sample(log_std).expand(sample.shape[0]))
        return torch.cat([sample.flatten(1), *reversed(parts)], dim=1), torch.stack(changes).sum(0)

    def decode(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        last, latents = latents.tensor_split((math.prod(self.last_shape),), dim=1)
        sample = last.unflatten(1, self.last_shape)
        changes: list[Tensor] = []
        if self.config.learned_prior:
            mean, log_std = self.last_prior(labels)
            sample = (torch.exp(log_std) * sample + mean).to(sample.dtype)
            changes.append(sum_per_sample(log_std).expand(sample.shape[0]))
        for index in reversed(range(len(self.scales))):
            sample, change = self.scales[index].inverse(sample, context)  # type: ignore[operator]
            changes.append(change)
            if index > 0:
                part, latents = latents.tensor_split((sample[0].numel(),), dim=1)
                leaving = part.view_as(sample)
                if self.config.learned_prior:
                    prior: Any = self.split_priors[index - 1]
                    leaving, change = prior.restore(sample, leaving, context)
                    changes.append(change)
                sample = torch.cat([sample, leaving], dim=1)
        return sample, torch.stack(changes).sum(0)

    def decode_sample(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> Tensor:
        last, latents = latents.tensor_split((math.prod(self.last_shape),), dim=1)
        sample = last.unflatten(1, self.last_shape)
        if self.config.learned_prior:
            mean, log_std = self.last_prior(labels)
            sample = torch.addcmul(mean, torch.exp(log_std), sample).to(sample.dtype)
        for index in reversed(range(len(self.scales))):
            scale: Any = self.scales[index]
            squeeze, *steps = scale.layers
            sample = squeeze.generate(generate_steps(sample, steps, context))
            if index > 0:
                part, latents = latents.tensor_split((sample[0].numel(),), dim=1)
                leaving = part.view_as(sample)
                if self.config.learned_prior:
                    prior: Any = self.split_priors[index - 1]
                    leaving = prior.generate_half(sample, leaving, context)
                sample = torch.cat([sample, leaving], dim=1)
        return sample

    def last_prior(self, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the last scale, (batch or 1, channels, height, width), float32."""
        mean, log_std = self.prior_mean.float(), self.prior_log_std.float()
        return (mean, log_std) if labels is None else (mean[labels], log_std[labels])
