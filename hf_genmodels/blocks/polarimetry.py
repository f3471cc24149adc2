"""The last layer of a translator to polarimetric images: light that exists, whatever the layers before it say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_choice
from ..choices import IntensitySource
from ..losses.gan import at_least_float32
from ..losses.polarimetry import camera_matrix, check_passes_no_more_than_there_is, left_inverse

# how much brighter or darker than its source an image can be: two stops
MOST_GAIN = 4.0
# pixels on a side of the window over which the gain is averaged
GAIN_WINDOW = 9
# of a source; half a step of 8 bits, so that S0 stays above 0
LEAST_LIGHT = 0.5 / 255


class ConeHead(nn.Module):
    """Three numbers a pixel -> four intensities y = A S with S0^2 >= S1^2 + S2^2, exactly (rounding apart).

    The last two numbers, v, are the polarised part of the light relative to S0: (S1, S2) / S0 = v / sqrt(1 + |v|^2).
    Its length, the degree of polarisation, is in [0, 1); its direction is twice the angle. Degree and direction are
    not two outputs: a direction has no derivative where nothing is polarised, and around such a pixel it turns once
    or more; v goes through 0 smoothly.

    The first number is about brightness. Intensities end at 1, where a camera saturates, but S0 = I0 + I90 does not:
    it reaches 2 where nothing is polarised and 1 where everything is. So what is predicted is the brightest of the
    four intensities, (1 + tanh) / 2, and S0 follows: every admissible pixel in [0, 1] can be had, and no other. With
    `intensity_source="input"` the mean of the four is the source's luminance, the mean of its channels, times a gain
    in [1/4, 4] where, as of an ideal camera, the four rows' a1 and a2 sum to 0; a pixel that would have an intensity
    above 1 is dimmed as a whole. The gain is averaged over 9x9 pixels: it makes up for exposure and colour filters,
    and leaves edges to the source.

    Args:
        calibration: A, four rows of three numbers; None for an ideal camera's.
        intensity_source: "learned" or "input".

    Raises:
        UserError: A has another shape or rank, or makes negative intensities of possible light.
    """

    in_channels = 3

    def __init__(
        self, calibration: Sequence[Sequence[float]] | None = None, intensity_source: IntensitySource = "learned"
    ) -> None:
        super().__init__()
        check_choice("intensity_source", intensity_source, get_args(IntensitySource))
        matrix = camera_matrix(calibration)
        left_inverse(matrix, "orthogonal")
        check_passes_no_more_than_there_is(matrix, 'output_head "cone"')
        # numbers, not a tensor: they follow the network to every device and lose nothing to its precision
        self.rows: list[list[float]] = matrix.tolist()
        self.intensity_source = intensity_source

    def forward(self, raw: Tensor, source: Tensor) -> Tensor:
        """Intensities of what the layers before say.

        Args:
            raw: (batch, 3, height, width), any numbers.
            source: The image that is translated, (batch, any channels, height, width) in [-1, 1].

        Returns:
            (batch, 4, height, width), I0, I45, I90 and I135 in [-1, 1]; float32 at least, since lower precisions would
            round the four intensities apart.
        """
        brightness, polarised = at_least_float32(raw).split([1, 2], dim=1)
        s1, s2 = into_disc(polarised).split(1, dim=1)
        response = torch.cat([a0 + a1 * s1 + a2 * s2 for a0, a1, a2 in self.rows], dim=1)  # of S0 = 1
        brightest = response.amax(dim=1, keepdim=True)
        if self.intensity_source == "learned":
            s0 = torch.sigmoid(2 * brightness) / brightest
        else:
            unpolarised = sum(row[0] for row in self.rows) / len(self.rows)
            s0 = torch.minimum(luminance(source) * gain(brightness) / unpolarised, 1 / brightest)
        return 2 * s0 * response - 1


def into_disc(vectors: Tensor) -> Tensor:
    """Vectors into the unit disc: v / sqrt(1 + |v|^2), on the rim only where rounding puts it there.

    Args:
        vectors: (batch, 2, height, width), any finite numbers.

    Returns:
        The same shape.
    """
    # divided by what it does not depend on: squares of large numbers would be infinite
    scale = vectors.detach().abs().amax(dim=1, keepdim=True).clamp(min=1)
    scaled = vectors / scale
    return scaled * torch.rsqrt(scale.reciprocal().square() + scaled.square().sum(dim=1, keepdim=True))


def luminance(source: Tensor) -> Tensor:
    """Mean of the channels in (0, 1], (batch, 1, height, width), of images in [-1, 1]."""
    mean = (at_least_float32(source).mean(dim=1, keepdim=True) + 1) / 2
    return mean.clamp(LEAST_LIGHT, 1)


def gain(raw: Tensor) -> Tensor:
    """A factor for each pixel, between 1/4 and 4 and almost the same in neighbouring pixels.

    Args:
        raw: (batch, 1, height, width), any numbers; 0 is a factor of 1.
    """
    mean = F.avg_pool2d(raw, GAIN_WINDOW, stride=1, padding=GAIN_WINDOW // 2, count_include_pad=False)
    return torch.exp(math.log(MOST_GAIN) * torch.tanh(mean))
