"""Residual generator and spectrally normalised discriminator (Miyato et al. 2018, arXiv 1802.05957, appendix B.4).

Class-conditional as in Miyato & Koyama 2018 (arXiv 1802.05637): conditional batch norm and projection. The papers give
networks for 32, 48 and 128 pixels; 64 here is the network for 128 with one block less on each side.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import (
    BatchNorm,
    DiscriminatorHead,
    DiscriminatorOutput,
    GeneratorOutput,
    append_classes,
    check_class_input,
    check_conditioning,
    check_latents,
    initialise_glorot,
    spectral_normalise,
)
from ..blocks.autoencoding import check_sample
from ..blocks.recomputation import call_block
from ..checks import check_choice, check_widths
from ..choices import NormStatistics
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words

GeneratorConditioning = Literal["none", "concat", "batch_norm"]
DiscriminatorConditioning = Literal["none", "projection", "acgan"]
DiscriminatorNorm = Literal["spectral", "none"]

GENERATOR_CHANNELS = {
    32: (256, 256, 256, 256),
    64: (1024, 512, 256, 128, 64),
    128: (1024, 1024, 512, 256, 128, 64),
}
# channels of the blocks, and how many of them, from the first on, halve the image
DISCRIMINATOR_CHANNELS = {
    32: ((128, 128, 128, 128), 2),
    64: ((64, 128, 256, 512, 1024), 4),
    128: ((64, 128, 256, 512, 1024, 1024), 5),
}


class UpResidualBlock(nn.Module):
    """Batch norm, ReLU, nearest upsampling, conv 3x3, batch norm, ReLU, conv 3x3; shortcut: upsampling, conv 1x1."""

    def __init__(self, in_channels: int, out_channels: int, num_classes: int | None, statistics: str) -> None:
        super().__init__()
        self.norm1 = BatchNorm(in_channels, num_classes=num_classes, statistics=statistics)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = BatchNorm(out_channels, num_classes=num_classes, statistics=statistics)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, hidden: Tensor, labels: Tensor | None) -> Tensor:
        """(batch, in_channels, size, size) -> (batch, out_channels, 2 size, 2 size)."""
        residual = F.interpolate(F.relu(self.norm1(hidden, labels)), scale_factor=2)
        residual = self.conv2(F.relu(self.norm2(self.conv1(residual), labels)))
        # a 1x1 convolution gives the same before and after nearest upsampling, and costs a quarter before
        return residual + F.interpolate(self.shortcut(hidden), scale_factor=2)


class DownResidualBlock(nn.Module):
    """ReLU, conv 3x3, ReLU, conv 3x3, average pooling; shortcut: conv 1x1, pooling. `first` has no ReLU before."""

    def __init__(self, in_channels: int, out_channels: int, downsample: bool, first: bool) -> None:
        super().__init__()
        self.first = first
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels and not downsample
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        self.pool = nn.AvgPool2d(2) if downsample else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, in_channels, size, size) -> (batch, out_channels, size, size), or half the size."""
        residual = self.conv1(hidden if self.first else F.relu(hidden))
        residual = self.pool(self.conv2(F.relu(residual)))
        # pooling and a 1x1 convolution commute
        return residual + self.shortcut(self.pool(hidden))


class SNGANGenerator(ModelMixin, ConfigMixin):
    """x = G(z): a dense layer to a 4x4 map, residual blocks that double it, batch norm, ReLU, conv 3x3, tanh.

    Args:
        latent_dim: Dimension of z.
        out_channels: Channels of an image, any number.
        sample_size: Height and width of an image, one number for a square: the shorter side 4 times a power of two,
            the longer one a multiple of that power.
        block_out_channels: Channels of the smallest map, whose shorter side is 4, and of each block after it; None for
            the paper's (32, 64 or 128 pixels on the shorter side).
        conditioning: "none", "concat" (one-hot classes beside z) or "batch_norm" (a gain and a shift for each class).
        num_classes: Number of classes; None with conditioning "none".
        norm_statistics: What the batch norms use in eval mode: "running" averages, or those of the "batch" itself.

    Raises:
        UserError: An unknown choice, no width, or size and blocks, or conditioning and classes that do not go
            together.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        latent_dim: int = 128,
        out_channels: int = 3,
        sample_size: SampleSize = 32,
        block_out_channels: tuple[int, ...] | None = None,
        conditioning: GeneratorConditioning = "none",
        num_classes: int | None = None,
        norm_statistics: NormStatistics = "running",
    ) -> None:
        super().__init__()
        check_conditioning("SNGANGenerator", conditioning, get_args(GeneratorConditioning), num_classes)
        check_widths("latent_dim", [latent_dim])
        check_widths("block_out_channels", block_out_channels or ())
        height, width = height_width(sample_size)
        widths = tuple(block_out_channels or GENERATOR_CHANNELS.get(min(height, width), ()))
        factor = 2 ** (len(widths) - 1)
        if 4 * factor != min(height, width) or max(height, width) % factor:
            raise UserError(
                f"SNGANGenerator: {len(widths)} block_out_channels do not lead from 4 to {in_words(sample_size)} "
                "pixels; each after the first doubles the image, and only "
                f"{', '.join(map(str, GENERATOR_CHANNELS))} have defaults; use another --resolution"
            )
        self.first_size = (height // int(factor), width // int(factor))
        classes = num_classes if conditioning == "batch_norm" else None
        in_features = latent_dim + (num_classes or 0) * (conditioning == "concat")
        self.project = nn.Linear(in_features, math.prod(self.first_size) * widths[0])
        self.blocks = nn.ModuleList(
            UpResidualBlock(width_in, width_out, classes, norm_statistics) for width_in, width_out in pairwise(widths)
        )
        self.last_norm = BatchNorm(widths[-1], statistics=norm_statistics)
        self.to_image = nn.Conv2d(widths[-1], out_channels, 3, padding=1)
        initialise_glorot(self)

    def forward(
        self, latents: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> GeneratorOutput | tuple[Tensor, ...]:
        """Generate.

        Args:
            latents: z, (batch, latent_dim), standard normal.
            labels: (batch,) classes of a conditional network.
            return_dict: Return a `GeneratorOutput` instead of a tuple.

        Raises:
            UserError: Latents or labels do not fit the network.
        """
        check_latents(latents, self.config.latent_dim)
        check_class_input(labels, self.config.conditioning, latents.shape[0])
        if self.config.conditioning == "concat":
            latents = append_classes(latents, labels, self.config.num_classes)
        hidden = self.project(latents).unflatten(1, (-1, *self.first_size))
        for block in self.blocks:
            hidden = call_block(self, block, hidden, labels)
        output = GeneratorOutput(torch.tanh(self.to_image(F.relu(self.last_norm(hidden)))))
        return output if return_dict else output.to_tuple()


class SNGANDiscriminator(ModelMixin, ConfigMixin):
    """d(x): residual blocks without norm, ReLU, sum over pixels, a linear layer; all weights spectrally normalised.

    Args:
        in_channels: Channels of an image.
        sample_size: Height and width of an image, one number for a square.
        block_out_channels: Channels of the residual blocks; None for the paper's (32, 64 or 128 pixels on the shorter
            side).
        num_downsamples: Blocks, from the first on, that halve the image; None for the paper's.
        norm: "spectral", or "none" for use with a gradient penalty.
        conditioning: "none", "projection" or "acgan" (predicts the class).
        num_classes: Number of classes; None with conditioning "none".
        minibatch_kernels: B of minibatch discrimination before the last layer: each sample is also judged by how
            close it is to the rest of its batch; 0 for none.

    Raises:
        UserError: An unknown choice, no width, or size and blocks, or conditioning and classes that do not go
            together.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize = 32,
        block_out_channels: tuple[int, ...] | None = None,
        num_downsamples: int | None = None,
        norm: DiscriminatorNorm = "spectral",
        conditioning: DiscriminatorConditioning = "none",
        num_classes: int | None = None,
        minibatch_kernels: int = 0,
    ) -> None:
        super().__init__()
        check_conditioning("SNGANDiscriminator", conditioning, get_args(DiscriminatorConditioning), num_classes)
        check_choice("norm", norm, get_args(DiscriminatorNorm))
        check_widths("block_out_channels", block_out_channels or ())
        sides = height_width(sample_size)
        default_widths, default_halvings = DISCRIMINATOR_CHANNELS.get(min(sides), ((), 0))
        widths = tuple(block_out_channels or default_widths)
        halvings = default_halvings if num_downsamples is None else num_downsamples
        if not 0 < halvings <= len(widths) or any(side % 2**halvings for side in sides):
            raise UserError(
                f"SNGANDiscriminator: {halvings} of {len(widths)} blocks cannot halve {in_words(sample_size)} pixels; "
                "give block_out_channels and num_downsamples (only "
                f"{', '.join(map(str, DISCRIMINATOR_CHANNELS))} pixels have defaults)"
            )
        self.blocks = nn.Sequential(
            *(
                DownResidualBlock(width_in, width_out, downsample=index < halvings, first=index == 0)
                for index, (width_in, width_out) in enumerate(pairwise([in_channels, *widths]))
            )
        )
        self.head = DiscriminatorHead(widths[-1], conditioning, num_classes, minibatch_kernels)
        initialise_glorot(self)
        if norm == "spectral":
            spectral_normalise(self)

    def forward(
        self, sample: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple[Tensor, ...]:
        """Judge.

        Args:
            sample: (batch, channels, height, width) in [-1, 1].
            labels: (batch,) classes; an "acgan" network does not read them.
            return_dict: Return a `DiscriminatorOutput` (its features are the last map) instead of a tuple.

        Raises:
            UserError: Sample or labels do not fit the network.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        check_class_input(labels, self.config.conditioning, sample.shape[0])
        hidden = sample
        for block in self.blocks:
            hidden = call_block(self, block, hidden)
        features = F.relu(hidden)
        logits, class_logits = self.head(features.sum((2, 3)), labels)
        output = DiscriminatorOutput(logits, features, class_logits)
        return output if return_dict else output.to_tuple()
