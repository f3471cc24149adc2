"""Exponential moving averages of networks: parameters by diffusers' EMAModel, buffers averaged alike or copied."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel

from .arguments import TrainingArguments


class AveragedNetwork:
    """A network whose weights follow those of another as an exponential moving average.

    Args:
        source: The network to follow.
        args: How fast.
        averaged_buffers: Names of the buffers to average as parameters are; the others are copied.

    Attributes:
        network: The average, in eval mode, ready for a pipeline.
        average: diffusers' EMAModel, whose shadow parameters are `network`'s own.
    """

    def __init__(self, source: ModelMixin, args: TrainingArguments, averaged_buffers: Sequence[str] = ()) -> None:
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
        self.averaged_buffers = set(averaged_buffers)

    @torch.no_grad()
    def update(self, source: ModelMixin) -> None:
        """Move towards the weights of `source`; buffers that are not averaged are taken as they are."""
        self.average.step(source.parameters())
        for (name, mine), theirs in zip(self.network.named_buffers(), source.buffers(), strict=True):
            if name in self.averaged_buffers:
                mine.lerp_(theirs, 1 - self.average.cur_decay_value)
            else:
                mine.copy_(theirs)
