"""Generators of images from a few known pixels and noise (Ruffino et al. 2020, Neurocomputing, arXiv 2002.01281).

The layers are those of the tables in Ruffino's thesis. What differs from its code: a dense layer that acts on
each position is a 1x1 convolution, every normalisation comes before its ReLU, and what is known is told by an explicit
mask instead of by values other than 0, which loses every known pixel of middle grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
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
    """x = G(y, M, z) for known values y at the pixels of a mask M and noise z, a map smaller than the image.

    "dcgan" is the thesis' network for Fashion-MNIST (its table has width 64 and 28 pixels): a dense layer from z,
    two transposed convolutions, and only then, before the last convolution, the known pixels. They reach no further
    than their neighbours; the two dilated layers that the thesis' code has there are not in its table, nor here.

    "unet_res" is the thesis' network for CIFAR10 (width 64, 32 pixels): an encoder of the known pixels, z beside its
    smallest map, residual blocks of three convolutions, and a decoder whose layers also read the encoder's map of
    their size. The table has no kernel for the last convolution; it is 3 here.

    The others are those for textures of 160 pixels (width 64, three halvings, z of 20x20):

    - "up_dil": z is brought to the image's size, and four dilated convolutions follow, which see known pixels up to
      11 pixels away (the thesis' table; a fifth, undilated, makes the image).
    - "up_encdec": z is brought to the image's size, and an encoder and a decoder with skips follow.
    - "unet": an encoder of the known pixels, z beside its smallest map, and a decoder with skips.
    - "res": the same without skips, with residual blocks in the middle. The thesis' Res has 6 of these, its UNetRes is
      "unet" with 6, and its network for CelebA is nearly that: it has a dense layer of 4 x width behind z. As in the
      code, the blocks are as wide as the smallest map and z together.

    What the tables put a star on is linked here: every transposed convolution of a decoder reads the encoder's map of
    the size that it starts from. With kernel 5, where the tables have it: the first convolution, and the last
    transposed one of z in "up_encdec".

    Instance normalisation everywhere: statistics of a batch would tell a sample about its neighbours in a pack.

    Args:
        in_channels: Channels of an image, known and generated alike.
        sample_size: Height and width of an image, one number for a square: multiples of 2 ** num_halvings, at least
            twice that.
        latent_channels: Channels of z.
        architecture: "dcgan", "unet_res", "up_dil", "up_encdec", "unet" or "res".
        width: Channels of the maps of the image's size; smaller maps have 2, 4, ... x width.
        num_residual_blocks: Of "unet_res", "unet" and "res".
        num_halvings: From an image to z; 2 with "dcgan" and "unet_res".

    Raises:
        UserError: An unknown architecture, no width, another number of halvings than an architecture has, or a size
            that cannot be halved as often.
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
        num_halvings: int = 2,
    ) -> None:
        super().__init__()
        check_choice("architecture", architecture, get_args(PixelwiseArchitecture))
        check_widths("width", [width])
        check_widths("latent_channels", [latent_channels])
        check_widths("num_halvings", [num_halvings])
        if num_residual_blocks < 0:
            raise UserError(f"num_residual_blocks must be at least 0, got {num_residual_blocks}")
        if architecture in ("dcgan", "unet_res") and num_halvings != 2:
            raise UserError(f"num_halvings must be 2 with architecture {architecture}, got {num_halvings}")
        multiple = 2**num_halvings
        if any(side < 2 * multiple or side % multiple for side in height_width(sample_size)):
            raise UserError(
                f"PixelwiseGenerator: sample_size {in_words(sample_size)} is no multiple of {multiple} of at least "
                f"{2 * multiple}; use one (--resolution)"
            )
        known = in_channels + 1
        self.body: _UpNet | _UNetRes | _UpDil | _UpEncDec | _EncDec
        if architecture == "dcgan":
            self.body = _UpNet(known, self.latent_shape, width)
        elif architecture == "unet_res":
            self.body = _UNetRes(known, latent_channels, width, num_residual_blocks)
        elif architecture == "up_dil":
            self.body = _UpDil(known, latent_channels, width, num_halvings)
        elif architecture == "up_encdec":
            self.body = _UpEncDec(known, latent_channels, width, num_halvings)
        else:
            skips = architecture == "unet"
            self.body = _EncDec(known, latent_channels, width, num_halvings, num_residual_blocks, skips)
        self.to_image = nn.Conv2d(self.body.out_channels, in_channels, 3, padding=1)
        initialise_normal(self)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one z: (latent_channels, height / 2 ** num_halvings, width / 2 ** num_halvings)."""
        height, width = height_width(self.config.sample_size)
        factor = 2**self.config.num_halvings
        return self.config.latent_channels, height // factor, width // factor

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
        maps = _encode(self.down, known)
        hidden = self.join(torch.cat([maps[-1], latents], 1))
        for residual in self.residuals:
            hidden = hidden + residual(hidden)
        for layer, skipped in zip(self.up, reversed(maps), strict=True):
            hidden = layer(torch.cat([hidden, skipped], 1))
        return hidden


class _UpDil(nn.Module):
    """As `_UpNet`."""

    def __init__(self, known: int, latent_channels: int, width: int, num_halvings: int) -> None:
        super().__init__()
        self.rise = _rise(latent_channels, width, num_halvings)
        widths = [width + known, width, 2 * width, 4 * width, 8 * width]
        self.dilated = nn.Sequential(
            *(_conv(before, after, 3, 1, dilation) for dilation, (before, after) in enumerate(pairwise(widths), 1))
        )
        self.out_channels = widths[-1]

    def forward(self, known: Tensor, latents: Tensor) -> Tensor:
        hidden: Tensor = self.dilated(torch.cat([self.rise(latents), known], 1))
        return hidden


class _UpEncDec(nn.Module):
    """As `_UpNet`."""

    def __init__(self, known: int, latent_channels: int, width: int, num_halvings: int) -> None:
        super().__init__()
        self.rise = _rise(latent_channels, width, num_halvings, last_kernel_size=5)
        widths = [width * 2**level for level in range(num_halvings)]
        self.down = nn.ModuleList(_conv(before, after, 3, 2) for before, after in pairwise([width + known, *widths]))
        # the decoder starts from the smallest map, which has no other to be linked with
        reads = [widths[-1], *(before + after for before, after in pairwise(reversed(widths)))]
        self.up = nn.ModuleList(_up(read, after, 2) for read, after in zip(reads, reversed(widths), strict=True))
        self.out_channels = width

    def forward(self, known: Tensor, latents: Tensor) -> Tensor:
        *maps, hidden = _encode(self.down, torch.cat([self.rise(latents), known], 1))
        hidden = self.up[0](hidden)
        for layer, skipped in zip(self.up[1:], reversed(maps), strict=True):
            hidden = layer(torch.cat([hidden, skipped], 1))
        return hidden


class _EncDec(nn.Module):
    """As `_UpNet`."""

    def __init__(
        self, known: int, latent_channels: int, width: int, num_halvings: int, num_residual_blocks: int, skips: bool
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(num_halvings + 1)]
        self.down = nn.ModuleList(
            [_conv(known, width, 5, 1), *(_conv(before, after, 3, 2) for before, after in pairwise(widths))]
        )
        middle = widths[-1] + latent_channels
        self.residuals = nn.ModuleList(_residual(middle) for _ in range(num_residual_blocks))
        reads = [middle, *reversed(widths[1:-1])]
        linked = [*reversed(widths[1:])] if skips else [0] * num_halvings
        self.up = nn.ModuleList(
            _up(read + link, after, 2) for read, link, after in zip(reads, linked, reversed(widths[:-1]), strict=True)
        )
        self.skips = skips
        self.out_channels = width

    def forward(self, known: Tensor, latents: Tensor) -> Tensor:
        _, *maps = _encode(self.down, known)
        hidden = torch.cat([maps[-1], latents], 1)
        for residual in self.residuals:
            hidden = hidden + residual(hidden)
        for layer, skipped in zip(self.up, reversed(maps), strict=True):
            hidden = layer(torch.cat([hidden, skipped], 1) if self.skips else hidden)
        return hidden


def _encode(layers: Iterable[nn.Module], hidden: Tensor) -> list[Tensor]:
    """What each layer gives, one after the other."""
    maps = []
    for layer in layers:
        hidden = layer(hidden)
        maps.append(hidden)
    return maps


def _rise(latent_channels: int, width: int, num_halvings: int, last_kernel_size: int = 3) -> nn.Sequential:
    """From z to a map of `width` channels of the image's size."""
    widths = [latent_channels, *(width * 2**level for level in reversed(range(num_halvings)))]
    kernels = [3] * (num_halvings - 1) + [last_kernel_size]
    return nn.Sequential(
        *(_up(before, after, 2, kernel) for kernel, (before, after) in zip(kernels, pairwise(widths), strict=True))
    )


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False),
        InstanceNorm2d(out_channels, affine=True),
        nn.ReLU(),
    )


def _up(in_channels: int, out_channels: int, stride: int, kernel_size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        up_convolution(in_channels, out_channels, kernel_size, stride, bias=False),
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
