"""The U-Net generator of pix2pix: "Image-to-Image Translation with Conditional Adversarial Networks".

Isola et al. 2017, arXiv 1611.07004, section 6.1.1. The layers are those of the authors' PyTorch code (BSD licence),
which differs from the paper's text: dropout is not in the innermost of the up blocks, but in those after it, and for
256x256 images there are three of those, for 128x128 images two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import initialise_normal
from ..blocks.heads import output_head as head_of
from ..blocks.norms import RowsApart
from ..blocks.recomputation import call_block
from ..blocks.translation import TranslatorOutput, check_image, check_translator, image_norm
from ..choices import IntensitySource, OutputHead, TranslatorNorm, TranslatorStatistics
from ..errors import UserError
from ..sizes import SampleSize


def halving_multiple(num_downs: int) -> int:
    """Of what the sides of an image must be multiples that a `UNetTranslator` halves so often."""
    return 2**num_downs


class UNetTranslator(ModelMixin, ConfigMixin):
    """y = G(x): `num_downs` convolutions of stride 2, as many transposed ones, and skips between maps of equal size.

    The authors' `unet_256` is `num_downs=8`, their `unet_128` is `num_downs=7`. Theirs has at least 5 levels; here the
    channels after down block i are min(8, 2^i) x width for any number of levels from 2 on, so a smaller network is the
    outer part of theirs. Dropout acts in every up block between maps of 8 x width channels except the innermost, which
    is theirs; with fewer than 6 levels there is none of those, and it acts in the innermost one alone.

    Args:
        in_channels: Channels of x, any number.
        out_channels: Channels of y, any number.
        sample_size: Height and width of the images it is trained on, one number for squares; others fit as well, see
            `forward`.
        width: Channels after the first convolution.
        num_downs: Halvings of an image, at least 2.
        norm: "batch", "instance" (without gain and shift; the convolutions then have biases) or "none".
        dropout: Probability with which an activation is 0 in training; the authors have 0.5, or none.
        norm_statistics: What batch norms use in eval mode: "running" averages, or each "image"'s own statistics, as in
            the paper's batches of one image (section 3.4).
        output_head: "tanh" of each channel; "cone": the four intensities of a polarimetric camera, of light that
            exists, see `blocks.polarimetry.ConeHead`; "logits": the last layer as it is, one channel for each class.
        intensity_source: With "cone", how bright they are: "learned", or as the "input" up to a gain.
        calibration: With "cone", A of the camera, four rows of three numbers; None for an ideal one's.

    Raises:
        UserError: An unknown choice, no channels, fewer than 2 levels, or a size that is no multiple of 2^num_downs.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        sample_size: SampleSize = 256,
        width: int = 64,
        num_downs: int = 8,
        norm: TranslatorNorm = "batch",
        dropout: float = 0.5,
        norm_statistics: TranslatorStatistics = "running",
        output_head: OutputHead = "tanh",
        intensity_source: IntensitySource = "learned",
        calibration: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        if num_downs < 2:
            raise UserError(f"UNetTranslator: num_downs must be at least 2, got {num_downs}")
        check_translator("UNetTranslator", self.config, self.size_multiple)
        channels = [width * min(8, 2**level) for level in range(num_downs)]
        innermost = num_downs - 1
        bias = norm == "instance"
        self.down_blocks = nn.ModuleList([DownBlock(in_channels, width, nn.Identity(), bias, activate=False)])
        for level in range(1, num_downs):
            normalise = nn.Identity() if level == innermost else image_norm(norm, channels[level], norm_statistics)
            self.down_blocks.append(DownBlock(channels[level - 1], channels[level], normalise, bias))
        self.up_blocks = nn.ModuleList()
        for level in range(innermost, 0, -1):
            joined = channels[level] if level == innermost else 2 * channels[level]
            normalise = image_norm(norm, channels[level - 1], norm_statistics)
            dropped = 4 <= level < innermost or (num_downs < 6 and level == innermost)
            probability = dropout if dropped else 0.0
            self.up_blocks.append(UpBlock(joined, channels[level - 1], normalise, bias, probability))
        self.head = head_of("UNetTranslator", self.config)
        self.up_blocks.append(UpBlock(2 * width, self.head.in_channels, nn.Identity(), True, 0.0))
        initialise_normal(self)

    # several batches may go through it as one
    rows_are_independent = RowsApart()

    @property
    def size_multiple(self) -> int:
        """Of what height and width of an image must be multiples: 2^num_downs."""
        return halving_multiple(self.config.num_downs)

    def forward(self, sample: Tensor, return_dict: bool = True) -> TranslatorOutput | tuple[Tensor, ...]:
        """Translate.

        Args:
            sample: (batch, in_channels, height, width) in [-1, 1]; height and width multiples of 2^num_downs.
            return_dict: Return a `TranslatorOutput` instead of a tuple.

        Raises:
            UserError: Another number of channels, or a height or width that is no such multiple.
        """
        check_image("UNetTranslator", sample, self.config.in_channels, self.size_multiple)
        maps = [sample]
        for block in self.down_blocks:
            maps.append(call_block(self, block, maps[-1]))
        hidden = maps.pop()
        for block in self.up_blocks[:-1]:
            hidden = torch.cat([maps.pop(), call_block(self, block, hidden)], dim=1)
        output = TranslatorOutput(self.head(self.up_blocks[-1](hidden), sample))
        return output if return_dict else output.to_tuple()


class DownBlock(nn.Module):
    """LeakyReLU(0.2) (not on an image), convolution 4x4 of stride 2, norm.

    (batch, in_channels, height, width) -> (batch, out_channels, height / 2, width / 2).
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: nn.Module, bias: bool, activate: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)
        self.norm = norm
        self.activate = activate

    def forward(self, hidden: Tensor) -> Tensor:
        """Halve a map."""
        normalised: Tensor = self.norm(self.conv(F.leaky_relu(hidden, 0.2) if self.activate else hidden))
        return normalised


class UpBlock(nn.Module):
    """ReLU, transposed convolution 4x4 of stride 2, norm, dropout.

    (batch, in_channels, height, width) -> (batch, out_channels, 2 height, 2 width).
    """

    def __init__(self, in_channels: int, out_channels: int, norm: nn.Module, bias: bool, dropout: float) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)
        self.norm = norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Double a map."""
        dropped: Tensor = self.dropout(self.norm(self.conv(F.relu(hidden))))
        return dropped
