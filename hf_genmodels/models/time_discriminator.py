"""The discriminator of denoising diffusion GANs (arXiv 2112.07804): is x_{t-1} what the data leave of x_t?

As the code of Xiao et al. 2022 has it for small images, with three differences: pooling instead of filters, no
standard deviation over the batch, which would make a logit depend on other samples, and no convolution after the last
block.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from ..blocks.adversarial import DiscriminatorOutput
from ..blocks.autoencoding import check_sample
from ..blocks.recomputation import call_block
from ..checks import check_widths
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words

SLOPE = 0.2  # of LeakyReLU


class TimeBlock(nn.Module):
    """LeakyReLU, conv, the time's bias, LeakyReLU, pooling, conv; shortcut: pooling, conv 1x1; sum over sqrt 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, time_dim: int, halves: bool) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding)
        self.time = nn.Linear(time_dim, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size, padding=padding)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2) if halves else nn.Identity()

    def forward(self, hidden: Tensor, time: Tensor) -> Tensor:
        """(batch, in_channels, size, size), (batch, time_dim) -> (batch, out_channels, size, size), or half of it."""
        residual = self.conv1(F.leaky_relu(hidden, SLOPE)) + self.time(time)[:, :, None, None]
        residual = self.conv2(self.pool(F.leaky_relu(residual, SLOPE)))
        made: Tensor = (residual + self.shortcut(self.pool(hidden))) / math.sqrt(2)
        return made


class TimeDiscriminator(ModelMixin, ConfigMixin):
    """d(x_{t-1}, x_t, t): the logit that x_{t-1} is one of the data's, residual blocks without norm.

    Args:
        in_channels: Channels of an image, or dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        block_out_channels: Channels of the residual blocks, of which all but the first halve an image.

    Raises:
        UserError: No width, or more blocks than the image can be halved.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False
    rows_are_independent = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize | None = 32,
        block_out_channels: tuple[int, ...] = (64, 128, 128, 128),
    ) -> None:
        super().__init__()
        check_widths("block_out_channels", block_out_channels)
        is_image = sample_size is not None
        halvings = len(block_out_channels) - 1
        if sample_size is not None and any(side % 2**halvings for side in height_width(sample_size)):
            raise UserError(
                f"TimeDiscriminator: {halvings + 1} block_out_channels halve an image {halvings} times, and "
                f"{in_words(sample_size)} pixels cannot be; give fewer, or another --resolution"
            )
        first = block_out_channels[0]
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, 4 * first)
        self.stem = nn.Conv2d(2 * in_channels, first, 1)
        self.blocks = nn.ModuleList(
            TimeBlock(width_in, width_out, 3 if is_image else 1, 4 * first, halves=is_image and index > 0)
            for index, (width_in, width_out) in enumerate(pairwise((first, *block_out_channels)))
        )
        self.head = nn.Linear(block_out_channels[-1], 1)

    def forward(
        self, sample: Tensor, noisy: Tensor, timestep: Tensor, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple[Tensor, ...]:
        """Judge.

        Args:
            sample: x_{t-1}, (batch, channels, height, width), or (batch, dim).
            noisy: x_t, same shape.
            timestep: Index of t, from 0, (batch,).
            return_dict: Return a `DiscriminatorOutput` (its features are the last map) instead of a tuple.

        Raises:
            UserError: Samples do not fit the network.
        """
        config: Any = self.config
        for each in (sample, noisy):
            check_sample(each, config.in_channels, config.sample_size)
        both = torch.cat([sample, noisy], dim=1)
        time = self.time_embedding(self.time_proj(timestep).to(both.dtype))
        time = F.leaky_relu(time, SLOPE)
        hidden = self.stem(both.reshape(*both.shape, *[1] * (4 - both.ndim)))
        for block in self.blocks:
            hidden = call_block(self, block, hidden, time)
        features = F.leaky_relu(hidden, SLOPE)
        output = DiscriminatorOutput(self.head(features.sum((2, 3))).squeeze(1), features)
        return output if return_dict else output.to_tuple()
