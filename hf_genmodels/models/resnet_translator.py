"""The residual generator of CycleGAN, and PolarCycle's variant of it.

Zhu et al. 2017, arXiv 1703.10593, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
appendix 7.2; the layers of "cyclegan" are those of the authors' PyTorch code (BSD licence). Those of "polarcycle" are
from the code of Ruffino's thesis, chapter 3. That code runs in TensorFlow, whose convolutions of stride 2 pad an even
image below and on the right only; ours pad it above and on the left.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import hidden_norm, initialise_normal
from ..blocks.heads import output_head as head_of
from ..blocks.norms import RowsApart
from ..blocks.recomputation import call_block
from ..blocks.translation import TranslatorOutput, check_image, check_translator, image_norm
from ..checks import check_choice
from ..choices import IntensitySource, OutputHead, TranslatorNorm, TranslatorStatistics
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words

ResNetLayout = Literal["cyclegan", "polarcycle"]
PaddingMode = Literal["zeros", "reflect"]

# of what the sides of an image must be multiples: two convolutions halve it
SIZE_MULTIPLE = 4

# the smallest image that two halvings leave large enough for a reflected border and for an instance norm
SMALLEST_IMAGE = 8

# added to the variance by the norms of the layout's code
POLARCYCLE_EPS = 1e-3


class ResNetTranslator(ModelMixin, ConfigMixin):
    """y = G(x): a 7x7 convolution, two of stride 2, residual blocks, two transposed ones, a 7x7 one, tanh.

    The authors use 9 blocks for images of 256x256 and more, 6 for 128x128 (`resnet_9blocks`, `resnet_6blocks`).

    Args:
        in_channels: Channels of x, any number.
        out_channels: Channels of y, any number.
        sample_size: Height and width of the images it is trained on, one number for squares; others fit as well, see
            `forward`.
        width: Channels after the first convolution; the residual blocks have 4 x width.
        num_blocks: Residual blocks.
        norm: "instance" (without gain and shift in "cyclegan"), "batch" or "none".
        dropout: Probability with which an activation inside a residual block is 0 in training.
        layout: "cyclegan" pads the 7x7 convolutions and the residual blocks by reflection, and has biases only beside
            instance norm. "polarcycle" pads with zeros, has biases everywhere, norms with gain and shift but none
            inside the residual blocks, a ReLU after their addition, and Glorot's uniform distribution of initial
            weights instead of N(0, 0.02).
        norm_statistics: What batch norms use in eval mode: "running" averages, or each "image"'s own statistics.
        output_head: "tanh" of each channel; "cone": the four intensities of a polarimetric camera, of light that
            exists, see `blocks.polarimetry.ConeHead`; "logits": the last layer as it is, one channel for each class.
        intensity_source: With "cone", how bright they are: "learned", or as the "input" up to a gain.
        calibration: With "cone", A of the camera, four rows of three numbers; None for an ideal one's.

    Raises:
        UserError: An unknown choice, no channels, fewer than 0 blocks, or a size that is no multiple of 4 or below 8.
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
        num_blocks: int = 9,
        norm: TranslatorNorm = "instance",
        dropout: float = 0.0,
        layout: ResNetLayout = "cyclegan",
        norm_statistics: TranslatorStatistics = "running",
        output_head: OutputHead = "tanh",
        intensity_source: IntensitySource = "learned",
        calibration: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        check_choice("layout", layout, get_args(ResNetLayout))
        if num_blocks < 0:
            raise UserError(f"ResNetTranslator: num_blocks must be at least 0, got {num_blocks}")
        check_translator("ResNetTranslator", self.config, self.size_multiple)
        if min(height_width(sample_size)) < SMALLEST_IMAGE:
            raise UserError(
                f"ResNetTranslator: sample_size must be at least {SMALLEST_IMAGE}, got {in_words(sample_size)}"
            )
        is_polar = layout == "polarcycle"
        padding_mode: PaddingMode = "zeros" if is_polar else "reflect"
        bias = is_polar or norm == "instance"

        def normalise(channels: int) -> nn.Module:
            if is_polar:
                return hidden_norm(norm, channels, POLARCYCLE_EPS, norm_statistics) or nn.Identity()
            return image_norm(norm, channels, norm_statistics)

        def block(conv: nn.Module, channels: int) -> ConvBlock:
            return ConvBlock(conv, normalise(channels))

        def residual_block() -> ResidualBlock:
            norms = [nn.Identity() if is_polar else normalise(4 * width) for _ in range(2)]
            return ResidualBlock(4 * width, norms, bias, dropout, padding_mode, activate=is_polar)

        def down(channels: int) -> nn.Module:
            return nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=bias)

        def up(channels: int) -> nn.Module:
            return nn.ConvTranspose2d(channels, channels // 2, 3, 2, padding=1, output_padding=1, bias=bias)

        stem = nn.Conv2d(in_channels, width, 7, padding=3, bias=bias, padding_mode=padding_mode)
        self.stem = block(stem, width)
        self.down_blocks = nn.ModuleList([block(down(width), 2 * width), block(down(2 * width), 4 * width)])
        self.residual_blocks = nn.ModuleList(residual_block() for _ in range(num_blocks))
        self.up_blocks = nn.ModuleList([block(up(4 * width), 2 * width), block(up(2 * width), width)])
        self.head = head_of("ResNetTranslator", self.config)
        self.to_image = nn.Conv2d(width, self.head.in_channels, 7, padding=3, padding_mode=padding_mode)
        if is_polar:
            _initialise_glorot_uniform(self)
        else:
            initialise_normal(self)

    # several batches may go through it as one
    rows_are_independent = RowsApart()

    @property
    def size_multiple(self) -> int:
        """Of what height and width of an image must be multiples."""
        return SIZE_MULTIPLE

    def forward(self, sample: Tensor, return_dict: bool = True) -> TranslatorOutput | tuple[Tensor, ...]:
        """Translate.

        Args:
            sample: (batch, in_channels, height, width) in [-1, 1]; height and width multiples of 4, at least 8.
            return_dict: Return a `TranslatorOutput` instead of a tuple.

        Raises:
            UserError: Another number of channels, or a height or width that is no such multiple.
        """
        check_image("ResNetTranslator", sample, self.config.in_channels, self.size_multiple, SMALLEST_IMAGE)
        hidden = self.stem(sample)
        for block in (*self.down_blocks, *self.residual_blocks, *self.up_blocks):
            hidden = call_block(self, block, hidden)
        output = TranslatorOutput(self.head(self.to_image(hidden), sample))
        return output if return_dict else output.to_tuple()


class ConvBlock(nn.Module):
    """A convolution, plain or transposed, norm, ReLU."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, height, width) -> what the convolution makes of that shape."""
        return F.relu(self.norm(self.conv(hidden)))


class ResidualBlock(nn.Module):
    """x + norm(conv(dropout(relu(norm(conv(x)))))), with 3x3 convolutions; or the ReLU of that."""

    def __init__(
        self,
        channels: int,
        norms: list[nn.Module],
        bias: bool,
        dropout: float,
        padding_mode: PaddingMode,
        activate: bool,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias, padding_mode=padding_mode)
        self.norm1 = norms[0]
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias, padding_mode=padding_mode)
        self.norm2 = norms[1]
        self.activate = activate

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        inner = self.dropout(F.relu(self.norm1(self.conv1(hidden))))
        total: Tensor = hidden + self.norm2(self.conv2(inner))
        return F.relu(total) if self.activate else total


def _initialise_glorot_uniform(network: nn.Module) -> None:
    """Weights of convolutions from Glorot's uniform distribution, biases 0 (what Keras does)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
