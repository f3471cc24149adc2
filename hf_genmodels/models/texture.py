"""Stationary Gaussian texture from one image, and the periodic component of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..checks import check_choice
from ..errors import UserError
from ..sizes import SampleSize, height_width, sample_shape

Method = Literal["adsn", "random_phase"]


def periodic_component(image: Tensor) -> Tensor:
    """The image without the jumps across its borders when it is repeated (Moisan 2011).

    Moisan, "Periodic plus smooth image decomposition", J. Math. Imaging Vis. 39: the image with the same mean whose
    Laplacian, with opposite borders glued together, is the image's own, taken inside only. What is removed is smooth:
    its periodic Laplacian is the jumps at the borders. One division of Fourier coefficients solves for it.

    Args:
        image: (..., height, width), any values.

    Returns:
        Same shape, float64.
    """
    image = image.double()
    height, width = image.shape[-2:]
    jumps = torch.zeros_like(image)
    rows, columns = image[..., -1, :] - image[..., 0, :], image[..., -1] - image[..., 0]
    jumps[..., 0, :] += rows
    jumps[..., -1, :] -= rows
    jumps[..., 0] += columns
    jumps[..., -1] -= columns
    # the periodic Laplacian's eigenvalues
    vertical = 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(height, dtype=torch.float64)) - 2
    horizontal = 2 * torch.cos(2 * torch.pi * torch.fft.rfftfreq(width, dtype=torch.float64)) - 2
    eigenvalues = (vertical[:, None] + horizontal).to(image.device)
    eigenvalues[0, 0] = 1  # the jumps have no mean
    return image - torch.fft.irfft2(torch.fft.rfft2(jumps) / eigenvalues, s=(height, width))


@dataclass
class TextureOutput(BaseOutput):
    """Drawn textures.

    Args:
        sample (`torch.Tensor` of shape `(batch, channels, height, width)`): On the [-1, 1] scale, not clipped.
    """

    sample: Tensor


class StationaryTexture(ModelMixin, ConfigMixin):
    """The texture with the exemplar's mean and autocorrelation, and otherwise random phases.

    Galerne, Gousseau & Morel 2011, "Random phase textures: theory and synthesis", IEEE Trans. Image Process. 20. Of
    the exemplar h, here its periodic component, are kept the mean m and the spot t = (h - m) / sqrt(number of pixels).

    - "adsn" (asymptotic discrete spot noise): m + t * W, a periodic convolution with standard
      normal white noise W, the same for all channels. A stationary Gaussian field whose covariance is the exemplar's
      periodic autocorrelation, between channels too.
    - "random_phase": m + the field with h's Fourier moduli and with a random odd phase added to h's
      own, the same for all channels, which keeps how the channels belong together. That phase is W's, which is
      uniform; so for the same W the two methods differ by the moduli only. Mean and autocorrelation of each sample
      are exactly the exemplar's.

    Samples have the exemplar's size and are periodic. Until it is fitted the model is a random texture.

    Args:
        in_channels: Channels of the exemplar.
        sample_size: Its height and width, one number for a square.

    Raises:
        UserError: `sample_size` is below 1.
    """

    @register_to_config
    def __init__(self, in_channels: int = 1, sample_size: SampleSize = 64) -> None:
        super().__init__()
        shape = sample_shape(in_channels, sample_size)
        self.mean = nn.Parameter(torch.zeros(in_channels))
        self.spot = nn.Parameter(torch.randn(shape) / (2 * self.root))

    @property
    def root(self) -> float:
        """The square root of the number of pixels."""
        return math.sqrt(math.prod(height_width(self.config.sample_size)))

    @torch.no_grad()
    def set_exemplar(self, image: Tensor) -> None:
        """Become the texture of this image.

        Args:
            image: (channels, height, width) in [-1, 1].
        """
        periodic = periodic_component(image)
        mean = periodic.mean((1, 2))
        self.mean.copy_(mean)
        self.spot.copy_((periodic - mean[:, None, None]) / self.root)

    @property
    def exemplar(self) -> Tensor:
        """The periodic component of the exemplar, (channels, height, width) on the [-1, 1] scale, not clipped."""
        return self.mean[:, None, None] + self.spot * self.root

    def forward(
        self, latents: Tensor, method: Method = "adsn", return_dict: bool = True
    ) -> TextureOutput | tuple[Tensor, ...]:
        """Textures of white noise.

        Args:
            latents: W, (batch, height, width), standard normal.
            method: "adsn" or "random_phase".
            return_dict: Return a `TextureOutput` instead of a tuple.

        Raises:
            UserError: An unknown method, or latents of another shape.
        """
        check_choice("method", method, get_args(Method))
        size = height_width(self.config.sample_size)
        if tuple(latents.shape[1:]) != size:
            raise UserError(f"latents must be (batch, {size[0]}, {size[1]}), got {tuple(latents.shape)}")
        noise = torch.fft.rfft2(latents[:, None].float())
        if method == "random_phase":
            noise = torch.polar(torch.full_like(noise.real, self.root), noise.angle())  # the root mean square of |W|
        field = torch.fft.irfft2(torch.fft.rfft2(self.spot.float()) * noise, s=size)
        output = TextureOutput((self.mean.float()[:, None, None] + field).to(self.spot.dtype))
        return output if return_dict else output.to_tuple()
