"""BiGAN's discriminator of pairs (x, z) (Donahue et al. 2017, arXiv 1605.09782), as AVAE's authors have it.

The layers are those that AVAE (Plumerault et al. 2020, arXiv 2012.11551) is compared with; its authors' further
outputs, from x alone and from z alone, have no part in BiGAN's loss and are left out. BiGAN's generator and encoder
are `DCGANGenerator` and `DCGANEncoder`, or `MLPGenerator` and `MLPEncoder`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import (
    DCGANTrunk,
    DiscriminatorOutput,
    check_latents,
    dcgan_plan,
    initialise_normal,
    spectral_normalise,
)
from ..blocks.autoencoding import check_sample
from ..checks import check_choice, check_widths
from ..choices import DiscriminatorNorm
from ..errors import UserError
from ..sizes import SampleSize, sample_shape


def leaky_layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear + LeakyReLU(0.2) from each width to the next."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.LeakyReLU(0.2)]
    return layers


class BiGANDiscriminator(ModelMixin, ConfigMixin):
    """d(x, z): features of x and of z, side by side, through dense layers to a logit.

    For images, with w = `width`: x goes through the trunk of `DCGANDiscriminator` and a dense layer of 8w; z through
    dense layers of 8w, 8w and 8w; both together through two of 16w. For vectors, and with `hidden_dims`, x, z and both
    together each go through dense layers of these widths. All dense layers have LeakyReLU(0.2) but the last ones of x
    and of z alone, and that of the logit. AVAE's is `BiGANDiscriminator(width=128, **avae_layout(sample_size))`.
    Weights of a convolutional network start as those of `DCGANDiscriminator`, of a dense one as PyTorch draws them.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: As of `DCGANDiscriminator`, or any with `hidden_dims`; None for
            vectors.
        latent_dim: Dimension of z.
        width: Channels after the first convolution; they double up to 8 x width; as the next two, without
            `hidden_dims` only.
        kernel_size: 4, or 5.
        strides: Of the convolutions; None for twos, as many as `sample_size` needs. Ones need kernel 5.
        norm: Of the convolutions: "batch", "instance", "layer", "none"; or "spectral", which normalises all weights,
            those of a dense network too.
        norm_eps: Of the norms.
        hidden_dims: Widths of a dense network; None for convolutions over images, and (128, 128) for vectors.

    Raises:
        UserError: An unknown choice, no width, or size, kernel and strides that do not go together.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize | None = 32,
        latent_dim: int = 100,
        width: int = 64,
        kernel_size: Literal[4, 5] = 4,
        strides: tuple[int, ...] | None = None,
        norm: DiscriminatorNorm = "batch",
        norm_eps: float = 1e-5,
        hidden_dims: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        check_choice("norm", norm, get_args(DiscriminatorNorm))
        check_widths("latent_dim", [latent_dim])
        x_net: list[nn.Module]
        if sample_size is None or hidden_dims is not None:
            widths = [128, 128] if hidden_dims is None else list(hidden_dims)
            check_widths("hidden_dims", widths)
            if not widths:
                raise UserError("BiGANDiscriminator: a dense network needs at least one width in hidden_dims")
            joint_widths = widths
            x_net = [nn.Flatten(), *leaky_layers([math.prod(sample_shape(in_channels, sample_size)), *widths])[:-1]]
        else:
            plan = dcgan_plan("BiGANDiscriminator", sample_size, width, kernel_size, strides)
            widths, joint_widths = 3 * [8 * width], 2 * [16 * width]
            trunk = DCGANTrunk(in_channels, sample_size, plan, kernel_size, norm, norm_eps)
            x_net = [trunk, nn.Flatten(), nn.Linear(trunk.out_features, 8 * width)]
        self.x_net = nn.Sequential(*x_net)
        self.z_net = nn.Sequential(*leaky_layers([latent_dim, *widths])[:-1])
        self.joint = nn.Sequential(*leaky_layers([2 * widths[-1], *joint_widths]))
        self.head = nn.Linear(joint_widths[-1], 1)
        if isinstance(x_net[0], DCGANTrunk):
            initialise_normal(self)
        if norm == "spectral":
            spectral_normalise(self)

    def forward(
        self, sample: Tensor, latents: Tensor, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple[Tensor, ...]:
        """Judge pairs.

        Args:
            sample: x, (batch, channels, height, width) in [-1, 1], or (batch, dim).
            latents: z, (batch, latent_dim), row for row the partners of `sample`.
            return_dict: Return a `DiscriminatorOutput` (its features are those before the logit) instead of a tuple.

        Raises:
            UserError: Sample or latents do not fit the network or each other.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        check_latents(latents, self.config.latent_dim)
        if sample.shape[0] != latents.shape[0]:
            raise UserError(f"pairs need as many samples as latents, got {sample.shape[0]} and {latents.shape[0]}")
        features = self.joint(torch.cat([self.x_net(sample), self.z_net(latents)], dim=1))
        output = DiscriminatorOutput(self.head(features).squeeze(1), features)
        return output if return_dict else output.to_tuple()
