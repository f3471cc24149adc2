"""Generators of images from a few known pixels and noise (Ruffino et al. 2020, Neurocomputing, arXiv 2002.01281).

The layers are those of the tables in Ruffino's thesis. What differs from its code: a dense layer that acts on
each position is a 1x1 convolution, every normalisation comes before its ReLU, and what is known is told by an explicit
mask instead of by values other than 0, which loses every known pixel of middle grey.
"""

from __future__ import annotations

import math
from typing import get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import GeneratorOutput, initialise_normal, up_convolution
from ..blocks.norms import InstanceNorm2d
from ..checks import check_choice, check_widths
from ..choices import PixelwiseArchitecture
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words

DCGAN_CHANNELS = 7  # of the smallest map: the table's 343 units are 7 channels of 7x7


class PixelwiseGenerator(ModelMixin, ConfigMixin):
    """x = G(y, M, z) for known values y at the pixels of a mask M and noise z, a map of a quarter of the image's size.

    "dcgan" is the thesis' network for Fashion-MNIST (its table has width 64 and 28 pixels): a dense layer from z,
    two transposed convolutions, and only then, before the last convolution, the known pixels. They reach no further
    than their neighbours; the two dilated layers that the thesis' code has there are not in its table, nor here.

    "unet_res" is the thesis' network for CIFAR10 (width 64, 32 pixels): an encoder of the known pixels, z beside its
    smallest map, residual blocks of three convolutions, and a decoder whose layers also read the encoder's map of
    their size. The table has no kernel for the last convolution; it is 3 here.

    Instance normalisation everywhere: statistics of a batch would tell a sample about its neighbours in a pack.

    Args:
        in_channels: Channels of an image, known and generated alike.
        sample_size: Height and width of an image, one number for a square: multiples of 4, at least 8.
        latent_channels: Channels of z.
        architecture: "dcgan" or "unet_res".
        width: Channels of the maps of the image's size; smaller maps have 2 and 4 x width.
        num_residual_blocks: Of "unet_res"; 6 in the thesis' network for 128 pixels.

    Raises:
        UserError: An unknown architecture, no width, or a size that is no multiple of 4.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        sample_size: SampleSize = 32,
        latent_channels: int = 1,
        architecture: PixelwiseArchitecture = "unet_res",
        width: int = 64,
        num_residual_blocks: int = 4,
    ) -> None:
        super().__init__()
        check_choice("architecture", architecture, get_args(PixelwiseArchitecture))
        check_widths("width", [width])
        check_widths("latent_channels", [latent_channels])
        if num_residual_blocks < 0:
            raise UserError(f"num_residual_blocks must be at least 0, got {num_residual_blocks}")
        if any(side < 8 or side % 4 for side in height_width(sample_size)):
            raise UserError(
                f"PixelwiseGenerator: sample_size {in_words(sample_size)} is no multiple of 4 of at least 8; use "
                "one (--resolution)"
            )
        known = in_channels + 1
        self.body: _UpNet | _UNetRes
        if architecture == "dcgan":
            self.body = _UpNet(known, self.latent_shape, width)
        else:
            self.body = _UNetRes(known, latent_channels, width, num_residual_blocks)
        self.to_image = nn.Conv2d(self.body.out_channels, in_channels, 3, padding=1)
        initialise_normal(self)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one z: (latent_channels, height / 4, width / 4)."""
        height, width = height_width(self.config.sample_size)
        return self.config.latent_channels, height // 4, width // 4

    def forward(
        self, values: Tensor, mask: Tensor, latents: Tensor, return_dict: bool = True
    ) -> GeneratorOutput | tuple[Tensor, ...]:
        """Generate.

        Args:
            values: y, (batch, channels, height, width) in [-1, 1], 0 where nothing is known.
            mask: M, (batch, 1, height, width), 1 where a pixel is known, else 0.
            latents: z, (batch, *latent_shape), uniform in [-1, 1] as in the code of the paper, whose text also allows
                normal ones.
            return_dict: Return a `GeneratorOutput` instead of a tuple.

        Raises:
            UserError: A tensor has another shape than the network was built for.
        """
        config = self.config
        size = height_width(config.sample_size)
        for name, tensor, shape in (
            ("values", values, (config.in_channels, *size)),
            ("mask", mask, (1, *size)),
            ("latents", latents, self.latent_shape),
        ):
            expected = (values.shape[0], *shape)
            if tuple(tensor.shape) != expected:
                raise UserError(f"{name}: the network takes shape {expected}, got {tuple(tensor.shape)}")
        hidden = self.body(torch.cat([values, mask], 1), latents)
        output = GeneratorOutput(torch.tanh(self.to_image(hidden)))
        return output if return_dict else output.to_tuple()


class _UpNet(nn.Module):
    """From known pixels (batch, known, height, width) and z (batch, *latent_shape) to the last map."""

    def __init__(self, known: int, latent_shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        first = (DCGAN_CHANNELS, *latent_shape[1:])
        self.up = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(latent_shape), math.prod(first), bias=False),
            nn.Unflatten(1, first),
            InstanceNorm2d(DCGAN_CHANNELS, affine=True),
            nn.ReLU(),
            _up(DCGAN_CHANNELS, 2 * width, 2),
            _up(2 * width, width, 2),
        )
        self.out_channels = width + known

    def forward(self, known: Tensor, latents: Tensor) -> Tensor:
        return torch.cat([self.up(latents), known], 1)


class _UNetRes(nn.Module):
    """As `_UpNet`."""

    def __init__(self, known: int, latent_channels: int, width: int, num_residual_blocks: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [_conv(known, width, 5, 1), _conv(width, 2 * width, 3, 2), _conv(2 * width, 4 * width, 3, 2)]
        )
        self.join = _conv(4 * width + latent_channels, 4 * width, 1, 1)
        self.residuals = nn.ModuleList(_residual(4 * width) for _ in range(num_residual_blocks))
        self.up = nn.ModuleList([_up(8 * width, 4 * width, 2), _up(6 * width, 2 * width, 2), _up(3 * width, width, 1)])
        self.out_channels = width

    def forward(self, known: Tensor, latents: Tensor) -> Tensor:
        maps, hidden = [], known
        for layer in self.down:
            hidden = layer(hidden)
            maps.append(hidden)
        hidden = self.join(torch.cat([hidden, latents], 1))
        for residual in self.residuals:
            hidden = hidden + residual(hidden)
        for layer, skipped in zip(self.up, reversed(maps), strict=True):
            hidden = layer(torch.cat([hidden, skipped], 1))
        return hidden


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        InstanceNorm2d(out_channels, affine=True),
        nn.ReLU(),
    )


def _up(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        up_convolution(in_channels, out_channels, 3, stride, bias=False),
        InstanceNorm2d(out_channels, affine=True),
        nn.ReLU(),
    )


def _residual(channels: int) -> nn.Sequential:
    """The branch of a residual block: no ReLU after its last convolution."""
    last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(
        _conv(channels, channels, 3, 1),
        _conv(channels, channels, 3, 1),
        last,
        InstanceNorm2d(channels, affine=True),
    )
