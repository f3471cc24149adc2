"""The generator of denoising diffusion GANs: a U-Net that draws x_0 from what it may be, given x_t (arXiv 2112.07804).

It is diffusers' UNet2DModel with a mapping network for the latents z. The NCSN++ of Xiao et al. 2022 differs: there z
gives gains and shifts of every group norm, and the time a bias. Here the mapped z is added to the embedding of the
time, and both give the gain and shift of the norm in the middle of each residual block
(`resnet_time_scale_shift="scale_shift"`). Strided convolutions resample, not filters, and there is no pyramid of
inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.adversarial import check_latents
from ..blocks.autoencoding import check_sample
from ..checks import check_widths
from ..errors import UserError
from ..sizes import SampleSize


@dataclass
class DenoisedOutput(BaseOutput):
    """What one pass through a generator of denoising diffusion GANs gives.

    Args:
        sample (`torch.Tensor`): x_0, (batch, channels, height, width) in [-1, 1], or (batch, dim), unbounded.
    """

    sample: Tensor


class StochasticUNet(ModelMixin, ConfigMixin):
    """x_0 = G(x_t, t, z): another x_0 for each z, as p(x_0 | x_t) has many.

    Vectors are images of one pixel inside.

    Args:
        in_channels: Channels of an image, or dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        latent_dim: Dimension of z.
        block_out_channels: Widths of the levels, each of half the size.
        layers_per_block: Residual blocks of a level.
        attention: Self-attention in all levels but the first, not in the middle alone.
        dropout: In the residual blocks.
        norm_num_groups: Groups of the group norms.
        num_mapping_layers: Dense layers between z and the embedding of the time, at least 1.

    Raises:
        UserError: No width, or no layer.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize | None = 32,
        latent_dim: int = 100,
        block_out_channels: tuple[int, ...] = (32, 64, 64),
        layers_per_block: int = 2,
        attention: bool = False,
        dropout: float = 0.0,
        norm_num_groups: int = 8,
        num_mapping_layers: int = 3,
    ) -> None:
        super().__init__()
        check_widths("latent_dim", [latent_dim])
        check_widths("block_out_channels", block_out_channels)
        if num_mapping_layers < 1:
            raise UserError(f"num_mapping_layers must be at least 1, got {num_mapping_layers}")
        deeper = len(block_out_channels) - 1
        down, up = ("AttnDownBlock2D", "AttnUpBlock2D") if attention else ("DownBlock2D", "UpBlock2D")
        self.unet = UNet2DModel(
            sample_size=1 if sample_size is None else sample_size,
            in_channels=in_channels,
            out_channels=in_channels,
            block_out_channels=block_out_channels,
            down_block_types=("DownBlock2D", *[down] * deeper),
            up_block_types=(*[up] * deeper, "UpBlock2D"),
            layers_per_block=layers_per_block,
            dropout=dropout,
            attention_head_dim=None,
            norm_num_groups=norm_num_groups,
            add_attention=sample_size is not None,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )
        width = 4 * block_out_channels[0]  # of the embedding of the time
        layers: list[nn.Module] = [nn.Linear(latent_dim, width)]
        for _ in range(num_mapping_layers - 1):
            layers += [nn.SiLU(), nn.Linear(width, width)]
        self.mapping = nn.Sequential(*layers)

    def forward(
        self, noisy: Tensor, timestep: Tensor, latents: Tensor, return_dict: bool = True
    ) -> DenoisedOutput | tuple[Tensor, ...]:
        """Denoise.

        Args:
            noisy: x_t, (batch, channels, height, width), or (batch, dim).
            timestep: Index of t, from 0; one, or (batch,).
            latents: z, (batch, latent_dim), standard normal.
            return_dict: Return a `DenoisedOutput` instead of a tuple.

        Raises:
            UserError: Samples or latents do not fit the network.
        """
        config: Any = self.config
        check_sample(noisy, config.in_channels, config.sample_size)
        check_latents(latents, config.latent_dim)
        # as in StyleGAN, which the paper follows: the length of z says nothing
        directions = latents * latents.square().mean(1, keepdim=True).add(1e-8).rsqrt()
        images = noisy.reshape(*noisy.shape, *[1] * (4 - noisy.ndim))
        made = self.unet(images, timestep, class_labels=self.mapping(directions), return_dict=False)[0]
        output = DenoisedOutput(torch.tanh(made) if noisy.ndim == 4 else made.flatten(1))
        return output if return_dict else output.to_tuple()
