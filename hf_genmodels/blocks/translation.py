"""What networks from image to image share: their output, norms, and checks of the images they are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..checks import check_choice, check_widths
from ..choices import TranslatorNorm, TranslatorStatistics
from ..errors import UserError
from ..sizes import height_width, in_words
from .adversarial import BatchNorm
from .norms import InstanceNorm2d


@dataclass
class TranslatorOutput(BaseOutput):
    """What one pass through a translator gives.

    Args:
        sample (`torch.Tensor`): (batch, out_channels, height, width) in [-1, 1], or logits of classes.
    """

    sample: Tensor


def image_norm(norm: str, channels: int, statistics: str = "running") -> nn.Module:
    """The layer after a convolution; the identity for "none" and "spectral".

    "instance" has neither gain and shift nor running averages, as in the pix2pix authors' PyTorch code.

    Args:
        norm: "batch", "instance", or one that is no layer.
        channels: Of the maps.
        statistics: In eval mode, batch norm uses "running" averages or each "image"'s own statistics.
    """
    if norm == "batch":
        return BatchNorm(channels, statistics=statistics)
    if norm == "instance":
        return InstanceNorm2d(channels)
    return nn.Identity()


def check_translator(network: str, config: Mapping[str, Any], multiple: int) -> None:
    """Refuse a translator's configuration that makes no network.

    Args:
        network: Its name, for the message.
        config: Has in_channels, out_channels, width, sample_size, norm, norm_statistics and dropout.
        multiple: Of what the size of an image must be a multiple.

    Raises:
        UserError: An unknown choice, no channels, a size that is no multiple, or an impossible dropout.
    """
    check_choice("norm", config["norm"], get_args(TranslatorNorm))
    check_choice("norm_statistics", config["norm_statistics"], get_args(TranslatorStatistics))
    for name in ("in_channels", "out_channels", "width"):
        check_widths(name, [config[name]])
    if not 0 <= config["dropout"] < 1:
        raise UserError(f"dropout must be at least 0 and below 1, got {config['dropout']}")
    size = config["sample_size"]
    if any(side % multiple for side in height_width(size)):
        raise UserError(
            f"{network}: sample_size {in_words(size)} is no multiple of {multiple}; use one (--resolution)"
        )


def check_image(network: str, sample: Tensor, in_channels: int, multiple: int = 1, smallest: int = 1) -> None:
    """Compare a batch of images with what a fully convolutional network takes.

    Args:
        network: Its name, for the message.
        sample: (batch, in_channels, height, width).
        in_channels: Of an image.
        multiple: Of what height and width must be multiples.
        smallest: Height and width must be at least that.

    Raises:
        UserError: No batch of images, another number of channels, or a height or width that does not fit.
    """
    shape = tuple(sample.shape)
    if sample.ndim != 4 or shape[1] != in_channels:
        raise UserError(f"{network} takes samples of shape (batch, {in_channels}, height, width), got {shape}")
    if any(side % multiple or side < smallest for side in shape[2:]):
        wanted = [f"multiples of {multiple}"] * (multiple > 1) + [f"at least {smallest}"] * (smallest > multiple)
        raise UserError(f"{network}: height and width must be {' and '.join(wanted)}, got a sample of shape {shape}")
