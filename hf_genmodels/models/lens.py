"""The lens of tempered adversarial networks (Sajjadi et al. 2018, arXiv 1802.04374)."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.autoencoding import check_sample, dense_layers
from ..checks import check_widths
from ..sizes import SampleSize
from .sngan import DownResidualBlock


@dataclass
class LensOutput(BaseOutput):
    """What one pass through a lens gives.

    Args:
        sample (`torch.Tensor` of shape `(batch, channels, height, width)` or `(batch, dim)`): L(x), unbounded.
    """

    sample: Tensor


class LensNetwork(ModelMixin, ConfigMixin):
    """L(x) = x + f(x): what the discriminator sees in place of the real x, of the same shape.

    The method needs no more than such a map that can become the identity; the layers here are ours, not the authors'.
    For images f is a 3x3 convolution, residual blocks of two 3x3 convolutions at full size and without norm, ReLU and
    a 3x3 convolution; for vectors dense layers with ReLU and a linear one. Weights start as PyTorch draws them: near
    the identity, which the loss pulls the lens back to, but not on it.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        width: Channels of the maps; of images only.
        num_blocks: Number of residual blocks; of images only.
        hidden_dims: Widths of the hidden layers; of vectors only.

    Raises:
        UserError: A width or number of blocks below 1.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize | None = 32,
        width: int = 64,
        num_blocks: int = 2,
        hidden_dims: tuple[int, ...] = (128, 128),
    ) -> None:
        super().__init__()
        check_widths("width", [width])
        check_widths("num_blocks", [num_blocks])
        if sample_size is None:
            widths = [in_channels, *hidden_dims]
            self.residual = nn.Sequential(*dense_layers(widths, "relu"), nn.Linear(widths[-1], in_channels))
        else:
            self.residual = nn.Sequential(
                nn.Conv2d(in_channels, width, 3, padding=1),
                *(DownResidualBlock(width, width, downsample=False, first=False) for _ in range(num_blocks)),
                nn.ReLU(),
                nn.Conv2d(width, in_channels, 3, padding=1),
            )

    def forward(self, sample: Tensor, return_dict: bool = True) -> LensOutput | tuple[Tensor, ...]:
        """Look through the lens.

        Args:
            sample: (batch, channels, height, width) in [-1, 1], or (batch, dim).
            return_dict: Return a `LensOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        output = LensOutput(sample + self.residual(sample))
        return output if return_dict else output.to_tuple()
