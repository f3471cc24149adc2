"""InfoGAN's discriminator, which also recognises the codes of a sample (Chen et al. 2016, arXiv 1606.03657).

Its generator is any that takes classes beside the latents, such as `DCGANGenerator` and `MLPGenerator` with
conditioning "concat".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import DCGANTrunk, DiscriminatorOutput, dcgan_plan, initialise_normal, spectral_normalise
from ..blocks.autoencoding import check_sample
from ..checks import check_choice, check_widths
from ..choices import DiscriminatorNorm
from ..errors import UserError
from ..sizes import SampleSize, sample_shape
from .bigan import leaky_layers

LARGEST_LOG_STD = 2.0


@dataclass
class InfoGANDiscriminatorOutput(DiscriminatorOutput):
    """What one pass through InfoGAN's discriminator gives: of Q(c|x) None where there are no such codes.

    Args:
        logits (`torch.Tensor` of shape `(batch,)`): Of "real".
        features (`torch.Tensor` of shape `(batch, width)`): What both heads look at.
        class_logits (`torch.Tensor` of shape `(batch, num_categories)`, *optional*): Of the category.
        code_mean (`torch.Tensor` of shape `(batch, num_codes)`, *optional*): Of the continuous codes.
        code_log_std (`torch.Tensor` of shape `(batch, num_codes)`, *optional*): The same, within +- 2.
    """

    code_mean: Tensor | None = None
    code_log_std: Tensor | None = None


class InfoGANDiscriminator(ModelMixin, ConfigMixin):
    """d(x) and Q(c|x): one trunk, a linear layer to a logit of "real", and two dense layers to the codes.

    Images go through the trunk of `DCGANDiscriminator`; vectors, and images with `hidden_dims`, through dense layers
    with LeakyReLU(0.2). The first layer of Q has 128 units and LeakyReLU(0.2), in the paper with a batch norm, which
    is left out. Weights of a convolutional network start as those of `DCGANDiscriminator`, of a dense one as PyTorch
    draws them.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: As of `DCGANDiscriminator`, or any with `hidden_dims`; None for vectors.
        num_categories: K of the categorical code; None for none.
        num_codes: Number of continuous codes, 0 for none.
        width: Channels after the first convolution; they double up to 8 x width; as the next two, without
            `hidden_dims` only.
        kernel_size: 4, or 5.
        strides: Of the convolutions; None for twos, as many as `sample_size` needs. Ones need kernel 5.
        norm: Of the convolutions: "batch", "instance", "layer", "none"; or "spectral", which normalises all weights,
            those of a dense network too.
        norm_eps: Of the norms.
        hidden_dims: Widths of a dense network; None for convolutions over images, and (128, 128) for vectors.

    Raises:
        UserError: No codes at all, fewer than two categories, an unknown choice, no width, or size, kernel and strides
            that do not go together.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize | None = 32,
        num_categories: int | None = 10,
        num_codes: int = 2,
        width: int = 64,
        kernel_size: Literal[4, 5] = 4,
        strides: tuple[int, ...] | None = None,
        norm: DiscriminatorNorm = "batch",
        norm_eps: float = 1e-5,
        hidden_dims: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        check_choice("norm", norm, get_args(DiscriminatorNorm))
        if num_codes < 0 or (num_categories is not None and num_categories < 2) or not (num_categories or num_codes):
            raise UserError(
                f"InfoGANDiscriminator: num_categories must be None or at least 2, num_codes at least 0, and not both "
                f"none, got {num_categories} and {num_codes}"
            )
        if sample_size is None or hidden_dims is not None:
            widths = [math.prod(sample_shape(in_channels, sample_size)), *(hidden_dims or (128, 128))]
            check_widths("hidden_dims", widths[1:])
            self.trunk = nn.Sequential(nn.Flatten(), *leaky_layers(widths))
            features = widths[-1]
        else:
            plan = dcgan_plan("InfoGANDiscriminator", sample_size, width, kernel_size, strides)
            trunk = DCGANTrunk(in_channels, sample_size, plan, kernel_size, norm, norm_eps)
            self.trunk, features = nn.Sequential(trunk, nn.Flatten()), trunk.out_features
        self.head = nn.Linear(features, 1)
        outputs = (num_categories or 0) + 2 * num_codes
        self.code_head = nn.Sequential(nn.Linear(features, 128), nn.LeakyReLU(0.2), nn.Linear(128, outputs))
        if sample_size is not None and hidden_dims is None:
            initialise_normal(self)
        if norm == "spectral":
            spectral_normalise(self)

    def forward(self, sample: Tensor, return_dict: bool = True) -> InfoGANDiscriminatorOutput | tuple[Tensor, ...]:
        """Judge and recognise.

        Args:
            sample: (batch, channels, height, width) in [-1, 1], or (batch, dim).
            return_dict: Return an `InfoGANDiscriminatorOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        config = self.config
        check_sample(sample, config.in_channels, config.sample_size)
        features = self.trunk(sample)
        sizes = (config.num_categories or 0, config.num_codes, config.num_codes)
        class_logits, mean, log_std = self.code_head(features).split(sizes, dim=1)
        # bounded smoothly: else the likelihood of codes that are recognised exactly has no end
        log_std = LARGEST_LOG_STD * torch.tanh(log_std / LARGEST_LOG_STD)
        output = InfoGANDiscriminatorOutput(
            logits=self.head(features).squeeze(1),
            features=features,
            class_logits=class_logits if config.num_categories else None,
            code_mean=mean if config.num_codes else None,
            code_log_std=log_std if config.num_codes else None,
        )
        return output if return_dict else output.to_tuple()
