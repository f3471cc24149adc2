"""The discriminator of pix2pix and CycleGAN, which judges patches of an image.

Isola et al. 2017, arXiv 1611.07004, section 6.1.2; the layers are those of the authors' PyTorch code (BSD licence).
"""

from __future__ import annotations

from typing import Literal, get_args

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import DiscriminatorOutput, initialise_normal, spectral_normalise
from ..blocks.norms import RowsApart
from ..blocks.recomputation import call_block
from ..blocks.translation import check_image, image_norm
from ..checks import check_choice, check_widths
from ..choices import ReceptiveField
from ..errors import UserError

PatchNorm = Literal["batch", "instance", "none", "spectral"]

# receptive field -> number of convolutions of stride 2; two of stride 1 follow them, and with 1 all are 1x1
STRIDED_LAYERS = {1: 0, 16: 1, 70: 3, 286: 5}


def smallest_image(receptive_field: int) -> int:
    """The shortest side of an image that a `PatchDiscriminator` of this receptive field can judge."""
    strided = STRIDED_LAYERS[receptive_field]
    # a convolution of stride 1 takes one row and one column, and one each must be left
    return 3 * 2**strided if strided else 1


class PatchDiscriminator(ModelMixin, ConfigMixin):
    """d(x): a map of logits of "real", each of one patch of an image.

    A conditional one is given both images along the channels: `in_channels` is the sum.

    Args:
        in_channels: Channels of an image, any number.
        width: Channels after the first convolution; they double up to 8 x width.
        receptive_field: Height and width of the patch that a logit depends on: 1 (the authors' `pixel`), 16, 70
            (`basic`) or 286 (`n_layers` with 1, 3 and 5 layers).
        norm: Of all convolutions but the first and the last: "batch", "instance" (without gain and shift; the
            convolutions then have biases), "none", or "spectral" (normalised weights instead of activations, which
            the authors do not have).

    Raises:
        UserError: An unknown choice or receptive field, or no channels.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        receptive_field: ReceptiveField = 70,
        norm: PatchNorm = "batch",
    ) -> None:
        super().__init__()
        check_choice("norm", norm, get_args(PatchNorm))
        check_widths("in_channels", [in_channels])
        check_widths("width", [width])
        if receptive_field not in STRIDED_LAYERS:
            raise UserError(f"receptive_field must be 1, 16, 70 or 286, got {receptive_field}")
        bias = norm == "instance"
        strided = STRIDED_LAYERS[receptive_field]
        kernel, padding = (4, 1) if strided else (1, 0)
        strides = [2] * strided + [1] if strided else [1, 1]
        blocks: list[nn.Module] = []
        channels = in_channels
        for level, stride in enumerate(strides):
            wider = width * min(8, 2**level)
            conv = nn.Conv2d(channels, wider, kernel, stride, padding, bias=bias or level == 0)
            normalise = nn.Identity() if level == 0 else image_norm(norm, wider)
            blocks.append(nn.Sequential(conv, normalise, nn.LeakyReLU(0.2)))
            channels = wider
        self.blocks = nn.Sequential(*blocks)
        self.to_logits = nn.Conv2d(channels, 1, kernel, padding=padding, bias=bias or strided > 0)
        initialise_normal(self)
        if norm == "spectral":
            spectral_normalise(self)

    # several batches may go through it as one
    rows_are_independent = RowsApart()

    def forward(self, sample: Tensor, return_dict: bool = True) -> DiscriminatorOutput | tuple[Tensor, ...]:
        """Judge.

        Args:
            sample: (batch, in_channels, height, width) in [-1, 1].
            return_dict: Return a `DiscriminatorOutput` instead of a tuple; its `logits` are (batch, 1, rows, columns),
                its `features` (batch, channels, ...) what the last convolution reads.

        Raises:
            UserError: Another number of channels, or an image too small for a single logit.
        """
        smallest = smallest_image(self.config.receptive_field)
        check_image("PatchDiscriminator", sample, self.config.in_channels, smallest=smallest)
        features = sample
        for block in self.blocks:
            features = call_block(self, block, features)
        output = DiscriminatorOutput(self.to_logits(features), features)
        return output if return_dict else output.to_tuple()
