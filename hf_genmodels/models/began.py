"""BEGAN's generator, and its discriminator, an autoencoder (Berthelot et al. 2017, arXiv 1703.10717, figure 1).

As the paper has them: 3x3 convolutions with ELU, two at each resolution; no normalisation, no dropout; nothing after
the layers to and from the code, and no tanh on the image. What is missing: the paper's optional improvements (skip
connections inside the decoder and vanishing residuals).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.adversarial import GeneratorOutput, check_latents, halvings_to
from ..blocks.autoencoding import check_sample
from ..checks import check_widths
from ..sizes import SampleSize, height_width


@dataclass
class BEGANDiscriminatorOutput(BaseOutput):
    """What one pass through BEGAN's discriminator gives.

    Args:
        reconstruction (`torch.Tensor` of shape `(batch, channels, height, width)` or `(batch, dim)`): D(x), unbounded,
            meant for [-1, 1].
    """

    reconstruction: Tensor


def check_arguments(network: str, sample_size: SampleSize | None, latent_dim: int, width: int) -> None:
    """Refuse sizes that no network with an 8x8 map can have.

    Raises:
        UserError: A size that halving does not lead to such a map, or no width.
    """
    check_widths("latent_dim", [latent_dim])
    check_widths("width", [width])
    if sample_size is not None:
        halvings_to(8, network, sample_size)


def sizes(sample_size: SampleSize) -> list[tuple[int, int]]:
    """(height, width) of the maps, from the image down to the smallest, whose shorter side is 8."""
    height, width = height_width(sample_size)
    times = (min(height, width) // 8).bit_length()
    return [(height >> k, width >> k) for k in range(times)]


def convolution(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    """Conv 3x3 and ELU; half the size for stride 2."""
    return [nn.Conv2d(in_channels, out_channels, 3, stride, padding=1), nn.ELU()]


def dense(widths: Sequence[int]) -> list[nn.Module]:
    """Linear and ELU from each width to the next."""
    check_widths("hidden_dims", widths[1:])
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ELU()]
    return layers


class BEGANDecoder(nn.Sequential):
    """A dense layer to an 8x8 map; two convolutions at each size, nearest upsampling between; a last convolution.

    (batch, latent_dim) -> (batch, out_channels, height, width). Dense layers instead for vectors.
    """

    def __init__(
        self,
        latent_dim: int,
        out_channels: int,
        sample_size: SampleSize | None,
        width: int,
        hidden_dims: Sequence[int],
    ) -> None:
        layers: list[nn.Module]
        if sample_size is None:
            widths = [latent_dim, *hidden_dims]
            layers = [*dense(widths), nn.Linear(widths[-1], out_channels)]
        else:
            maps = sizes(sample_size)
            smallest = (width, *maps[-1])
            layers = [nn.Linear(latent_dim, math.prod(smallest)), nn.Unflatten(1, smallest)]
            for level in range(len(maps)):
                if level > 0:
                    layers.append(nn.Upsample(scale_factor=2))
                layers += [*convolution(width, width), *convolution(width, width)]
            layers.append(nn.Conv2d(width, out_channels, 3, padding=1))
        super().__init__(*layers)


class BEGANEncoder(nn.Sequential):
    """A convolution; two at each size, stride-2 ones between; a dense layer from the 8x8 map.

    Channels are width, 2 width, 3 width, ... from one size to the next.
    (batch, in_channels, height, width) -> (batch, latent_dim). Dense layers instead for vectors.
    """

    def __init__(
        self, in_channels: int, sample_size: SampleSize | None, latent_dim: int, width: int, hidden_dims: Sequence[int]
    ) -> None:
        if sample_size is None:
            widths = [in_channels, *hidden_dims]
            layers = [*dense(widths), nn.Linear(widths[-1], latent_dim)]
        else:
            layers, channels = convolution(in_channels, width), width
            maps = sizes(sample_size)
            for level in range(len(maps)):
                if level > 0:
                    layers += convolution(channels, channels, stride=2)
                wider = (level + 1) * width
                layers += [*convolution(channels, wider), *convolution(wider, wider)]
                channels = wider
            layers += [nn.Flatten(), nn.Linear(math.prod(maps[-1]) * channels, latent_dim)]
        super().__init__(*layers)


class BEGANGenerator(ModelMixin, ConfigMixin):
    """x = G(z): the discriminator's decoder with weights of its own. Weights start as PyTorch draws them.

    Args:
        latent_dim: Dimension of z.
        out_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square: the shorter side a power of two, at least
            8, the longer one a multiple of an eighth of that; None for vectors.
        width: Channels of every map, n in the paper (64 or 128); of images only.
        hidden_dims: Widths of the hidden layers; of vectors only.

    Raises:
        UserError: A width below 1, or a size of other images.
    """

    @register_to_config
    def __init__(
        self,
        latent_dim: int = 64,
        out_channels: int = 3,
        sample_size: SampleSize | None = 32,
        width: int = 64,
        hidden_dims: tuple[int, ...] = (128, 128),
    ) -> None:
        super().__init__()
        check_arguments("BEGANGenerator", sample_size, latent_dim, width)
        self.decoder = BEGANDecoder(latent_dim, out_channels, sample_size, width, hidden_dims)

    def forward(self, latents: Tensor, return_dict: bool = True) -> GeneratorOutput | tuple[Tensor, ...]:
        """Generate.

        Args:
            latents: z, (batch, latent_dim).
            return_dict: Return a `GeneratorOutput` instead of a tuple. Its images are meant for [-1, 1] but not
                bounded, as in the paper: clamp them before showing them.

        Raises:
            UserError: Latents do not fit the network.
        """
        check_latents(latents, self.config.latent_dim)
        output = GeneratorOutput(self.decoder(latents))
        return output if return_dict else output.to_tuple()


class BEGANDiscriminator(ModelMixin, ConfigMixin):
    """D(x), an autoencoder: the loss is how far from x its output is. Weights start as PyTorch draws them.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square: the shorter side a power of two, at least
            8, the longer one a multiple of an eighth of that; None for vectors.
        latent_dim: Dimension of the code h; the paper's generator has as many.
        width: Channels of the decoder's maps and of the encoder's first, n in the paper; of images only.
        hidden_dims: Widths of the decoder's hidden layers, in the generator's order; the encoder mirrors them; of
            vectors only.

    Raises:
        UserError: A width below 1, or a size of other images.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize | None = 32,
        latent_dim: int = 64,
        width: int = 64,
        hidden_dims: tuple[int, ...] = (128, 128),
    ) -> None:
        super().__init__()
        check_arguments("BEGANDiscriminator", sample_size, latent_dim, width)
        self.encoder = BEGANEncoder(in_channels, sample_size, latent_dim, width, hidden_dims[::-1])
        self.decoder = BEGANDecoder(latent_dim, in_channels, sample_size, width, hidden_dims)

    def forward(self, sample: Tensor, return_dict: bool = True) -> BEGANDiscriminatorOutput | tuple[Tensor, ...]:
        """Reconstruct.

        Args:
            sample: (batch, channels, height, width), about [-1, 1], or (batch, dim).
            return_dict: Return a `BEGANDiscriminatorOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        output = BEGANDiscriminatorOutput(self.decoder(self.encoder(sample)))
        return output if return_dict else output.to_tuple()
