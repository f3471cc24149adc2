"""Exponential moving averages of networks: parameters by diffusers' EMAModel, buffers copied."""

from __future__ import annotations

import copy

import torch
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel

from .arguments import TrainingArguments


class AveragedNetwork:
    """A network whose weights follow those of another as an exponential moving average.

    Attributes:
        network: The average, in eval mode, ready for a pipeline.
        average: diffusers' EMAModel, whose shadow parameters are `network`'s own.
    """

    def __init__(self, source: ModelMixin, args: TrainingArguments) -> None:
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self.average = EMAModel(
            self.network.parameters(),
            decay=args.ema_max_decay,
            use_ema_warmup=True,
            inv_gamma=args.ema_inv_gamma,
            power=args.ema_power,
            foreach=True,
        )
        self.average.shadow_params = list(self.network.parameters())

    @torch.no_grad()
    def update(self, source: ModelMixin) -> None:
        """Move towards the weights of `source`; its buffers (batch statistics, flags) are taken as they are."""
        self.average.step(source.parameters())
        for mine, theirs in zip(self.network.buffers(), source.buffers(), strict=True):
            mine.copy_(theirs)
