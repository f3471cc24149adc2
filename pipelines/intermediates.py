"""What a diffusion model's samples look like on their way from noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_genmodels.errors import UserError

from .base import GenerativePipelineOutput


@dataclass
class DenoisingPipelineOutput(GenerativePipelineOutput):
    """What a diffusion pipeline returns that was asked for intermediate samples.

    Args:
        images: As of every pipeline.
        intermediates: List of what `images` would be if the steps had ended there: x_T first, `images` last.
    """

    intermediates: Any = None


class Intermediates:
    """A callback that keeps x_t of evenly spread steps, on the scale of the data whatever the sampler.

    Args:
        number: How many, x_T and x_0 included.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.kept: list[Tensor] = []

    def start(self, pipeline: Any, latents: Tensor) -> None:
        """Before the first step, with x_T as the sampler has it.

        Raises:
            UserError: There are not so many steps, or fewer than two samples are asked for.
        """
        most = len(pipeline.scheduler.timesteps) + 1
        if not 2 <= self.number <= most:
            raise UserError(f"num_intermediates must be 2 to {most}, one more than there are steps, got {self.number}")
        self.steps = set(torch.linspace(0, most - 1, self.number, dtype=torch.float64).round().int().tolist())
        self._keep(pipeline, 0, latents)

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: Mapping[str, Tensor]) -> None:
        if step + 1 in self.steps:
            self._keep(pipeline, step + 1, tensors["latents"])

    def _keep(self, pipeline: Any, steps: int, latents: Tensor) -> None:
        scheduler = pipeline.scheduler
        if steps < len(scheduler.timesteps):
            # some samplers multiply x_t by what its noise has grown to
            latents = scheduler.scale_model_input(latents, scheduler.timesteps[steps])
        self.kept.append(latents)
