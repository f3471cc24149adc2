"""Dense generator, discriminator and encoder: for points in the plane, latents, and small images."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import (
    DiscriminatorHead,
    DiscriminatorOutput,
    EncoderOutput,
    GeneratorOutput,
    append_classes,
    check_class_input,
    check_conditioning,
    check_latents,
    pack,
)
from ..blocks.autoencoding import Activation, build_head, build_trunk, check_sample, dense_layers
from ..checks import check_widths
from ..sizes import SampleSize, sample_shape

Conditioning = Literal["none", "concat"]


class MLPGenerator(ModelMixin, ConfigMixin):
    """x = G(z) through dense layers. Weights start as PyTorch draws them.

    Args:
        latent_dim: Dimension of z.
        out_channels: Dimension of a vector, or channels of an image.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        hidden_dims: Widths of the hidden layers.
        activation: "relu", "silu" or "tanh".
        conditioning: "none" or "concat" (one-hot classes beside z, Mirza & Osindero 2014).
        num_classes: Number of classes; None with conditioning "none".

    Raises:
        UserError: An unknown choice, no width, or conditioning and classes that do not go together.
    """

    @register_to_config
    def __init__(
        self,
        latent_dim: int = 2,
        out_channels: int = 2,
        sample_size: SampleSize | None = None,
        hidden_dims: tuple[int, ...] = (128, 128),
        activation: Activation = "relu",
        conditioning: Conditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        check_conditioning("MLPGenerator", conditioning, get_args(Conditioning), num_classes)
        check_widths("latent_dim", [latent_dim])
        self.layers = build_head(
            "mlp",
            latent_dim + (num_classes or 0),
            out_channels,
            sample_size,
            hidden_dims=hidden_dims,
            block_out_channels=(),
            norm="none",
            activation=activation,
        )

    def forward(
        self, latents: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> GeneratorOutput | tuple[Tensor, ...]:
        """Generate.

        Args:
            latents: z, (batch, latent_dim), standard normal.
            labels: (batch,) classes of a conditional network.
            return_dict: Return a `GeneratorOutput` (images through tanh, vectors as they are) instead of a tuple.

        Raises:
            UserError: Latents or labels do not fit the network.
        """
        check_latents(latents, self.config.latent_dim)
        check_class_input(labels, self.config.conditioning, latents.shape[0])
        sample = self.layers(append_classes(latents, labels, self.config.num_classes))
        output = GeneratorOutput(sample if self.config.sample_size is None else torch.tanh(sample))
        return output if return_dict else output.to_tuple()


class MLPDiscriminator(ModelMixin, ConfigMixin):
    """d(x) through dense layers. Weights start as PyTorch draws them.

    Args:
        in_channels: Dimension of a vector, or channels of an image.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        hidden_dims: Widths of the hidden layers, none for a linear discriminator; the last one gives the features.
        activation: "relu", "silu" or "tanh".
        conditioning: "none" or "concat" (one-hot classes beside the sample).
        num_classes: Number of classes; None with conditioning "none".
        packing: m of PacGAN: so many consecutive samples share a logit.
        minibatch_kernels: B of minibatch discrimination before the last layer: each sample (or pack) is also judged by
            how close it is to the rest of its batch; 0 for none.

    Raises:
        UserError: An unknown choice, no width, or conditioning and classes that do not go together.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 2,
        sample_size: SampleSize | None = None,
        hidden_dims: tuple[int, ...] = (128, 128),
        activation: Activation = "relu",
        conditioning: Conditioning = "none",
        num_classes: int | None = None,
        packing: int = 1,
        minibatch_kernels: int = 0,
    ) -> None:
        super().__init__()
        check_conditioning("MLPDiscriminator", conditioning, get_args(Conditioning), num_classes)
        check_widths("packing", [packing])
        in_features = packing * (math.prod(sample_shape(in_channels, sample_size)) + (num_classes or 0))
        widths = [in_features, *hidden_dims]
        self.layers = nn.Sequential(*dense_layers(widths, activation))
        self.head = DiscriminatorHead(widths[-1], conditioning, num_classes, minibatch_kernels)

    def forward(
        self, sample: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple[Tensor, ...]:
        """Judge.

        Args:
            sample: (batch, dim), or (batch, channels, height, width) in [-1, 1]; with packing m, m consecutive ones
                make a pack.
            labels: (batch,) classes of a conditional network.
            return_dict: Return a `DiscriminatorOutput` instead of a tuple.

        Raises:
            UserError: Sample or labels do not fit the network, or packing does not divide the batch.
        """
        config = self.config
        check_sample(sample, config.in_channels, config.sample_size)
        check_class_input(labels, config.conditioning, sample.shape[0])
        features = self.layers(pack(append_classes(sample.flatten(1), labels, config.num_classes), config.packing))
        output = DiscriminatorOutput(self.head(features, labels)[0], features)
        return output if return_dict else output.to_tuple()


class MLPEncoder(ModelMixin, ConfigMixin):
    """mu(x) through dense layers; optionally one log sigma for all samples. Weights start as PyTorch draws them.

    Args:
        in_channels: Dimension of a vector, or channels of an image.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        latent_dim: Dimension of mu.
        hidden_dims: Widths of the hidden layers.
        activation: "relu", "silu" or "tanh".
        shared_log_std: Have a free parameter `log_std` of `latent_dim` numbers, 0 at first.

    Raises:
        UserError: An unknown activation, or no width.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 2,
        sample_size: SampleSize | None = None,
        latent_dim: int = 1,
        hidden_dims: tuple[int, ...] = (128, 128),
        activation: Activation = "relu",
        shared_log_std: bool = False,
    ) -> None:
        super().__init__()
        check_widths("latent_dim", [latent_dim])
        self.trunk = build_trunk(
            "mlp",
            in_channels,
            sample_size,
            hidden_dims=hidden_dims,
            block_out_channels=(),
            norm="none",
            activation=activation,
        )
        self.to_mean = nn.Linear(self.trunk.out_features, latent_dim)
        self.log_std = nn.Parameter(torch.zeros(latent_dim)) if shared_log_std else None

    def forward(self, sample: Tensor, return_dict: bool = True) -> EncoderOutput | tuple[Tensor, ...]:
        """Encode.

        Args:
            sample: (batch, dim), or (batch, channels, height, width) in [-1, 1].
            return_dict: Return an `EncoderOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        output = EncoderOutput(self.to_mean(self.trunk(sample)), self.log_std)
        return output if return_dict else output.to_tuple()
