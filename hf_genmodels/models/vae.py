"""Variational autoencoder (Kingma & Welling 2013, arXiv 1312.6114)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.autoencoding import Activation, build_head, build_trunk, check_sample
from ..blocks.outputs import UNSET
from ..checks import check_choice, check_widths
from ..choices import Likelihood, TrunkNorm
from ..errors import UserError
from ..losses.likelihood import bernoulli_nll, categorical_nll, gaussian_nll
from ..sizes import SampleSize

Architecture = Literal["conv", "mlp"]


@dataclass
class VAEOutput(BaseOutput):
    """What one pass through a VAE gives.

    Args:
        mean (`torch.Tensor` of shape `(batch, latent_dim)`): Posterior mean, mu.
        log_std (`torch.Tensor` of shape `(batch, latent_dim)`): Log of the posterior's standard deviation, log sigma.
        latents (`torch.Tensor` of shape `(batch, latent_dim)`): z = mu + sigma * noise.
        decoded (`torch.Tensor`): The decoder's output for z, see `VAE.decoder_parameters`.
        log_scale (`torch.Tensor` scalar): Log of the Gaussian decoder's standard deviation s.
    """

    mean: Tensor
    log_std: Tensor = UNSET
    latents: Tensor = UNSET
    decoded: Tensor = UNSET
    log_scale: Tensor = UNSET


class VAE(ModelMixin, ConfigMixin):
    """Encoder q(z|x) = N(mu(x), sigma(x)^2) and decoder p(x|z) over images or vectors; prior N(0, I).

    The convolutional network is DCGAN-style: 4x4 kernels, stride 2, widths doubling by default. Table 4.2 of the
    Plumerault thesis (the beta-VAE of Burgess et al. 2018, 64x64) is `block_out_channels=(32, 32, 32, 32),
    norm="none", hidden_dims=(256, 256), decoder_hidden_dims=(256,)`. The table reshapes 256 units to 4x4x32 = 512,
    which cannot be; here its second dense layer has the 512 units that the reshape needs.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        latent_dim: Dimension of z.
        architecture: "conv" or "mlp".
        block_out_channels: Widths of the stride-2 convolutions, encoder order.
        hidden_dims: Widths of the encoder's dense layers (after the convolutions, if there are any).
        decoder_hidden_dims: Widths of the decoder's dense layers, in its order; None mirrors `hidden_dims`.
        norm: "batch", "group" or "none", in the convolutional network only.
        activation: "relu", "silu" or "tanh".
        likelihood: p(x|z): "gaussian", "bernoulli" (a grey value in [-1, 1] is the probability (x + 1) / 2 of a one)
            or "categorical" (`num_levels` grey levels for each pixel and channel).
        gaussian_std: Standard deviation s of the Gaussian decoder on the [-1, 1] scale; where learning of it starts.
        learn_std: Learn s, one number for the whole data set.
        num_levels: Grey levels of the categorical decoder.

    Raises:
        UserError: An unknown choice, a width below 1, `sample_size` too small for the number of blocks, "conv" for
            vectors, or a `gaussian_std` that is not positive and finite.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        sample_size: SampleSize | None = 28,
        latent_dim: int = 32,
        architecture: Architecture = "conv",
        block_out_channels: tuple[int, ...] = (32, 64, 128),
        hidden_dims: tuple[int, ...] = (),
        decoder_hidden_dims: tuple[int, ...] | None = None,
        norm: TrunkNorm = "batch",
        activation: Activation = "relu",
        likelihood: Likelihood = "gaussian",
        gaussian_std: float = 1.0,
        learn_std: bool = False,
        num_levels: int = 256,
    ) -> None:
        super().__init__()
        check_choice("architecture", architecture, get_args(Architecture))
        check_choice("likelihood", likelihood, get_args(Likelihood))
        check_widths("latent_dim", [latent_dim])
        if not 0 < gaussian_std < math.inf:
            raise UserError(f"gaussian_std must be positive and finite, got {gaussian_std}")
        self.trunk = build_trunk(
            architecture,
            in_channels,
            sample_size,
            hidden_dims=hidden_dims,
            block_out_channels=block_out_channels,
            norm=norm,
            activation=activation,
        )
        self.posterior = nn.Linear(self.trunk.out_features, 2 * latent_dim)
        self.decoder = build_head(
            architecture,
            latent_dim,
            in_channels * (num_levels if likelihood == "categorical" else 1),
            sample_size,
            hidden_dims=tuple(hidden_dims)[::-1] if decoder_hidden_dims is None else decoder_hidden_dims,
            block_out_channels=block_out_channels,
            norm=norm,
            activation=activation,
        )
        log_scale = torch.tensor(float(gaussian_std)).log()
        if likelihood == "gaussian" and learn_std:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def posterior_parameters(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x of shape (batch, channels, height, width) in [-1, 1]: mu, log sigma, both (batch, latent_dim)."""
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        mean, log_std = self.posterior(self.trunk(sample)).chunk(2, dim=1)
        return mean, log_std

    def decoder_parameters(self, latents: Tensor) -> Tensor:
        """What the decoder says of x, for z of shape (batch, latent_dim).

        Returns:
            Gaussian: the mean; Bernoulli: logits; both (batch, channels, height, width). Categorical: logits (batch,
            levels, channels, height, width).
        """
        decoded: Tensor = self.decoder(latents)
        if self.config.likelihood == "categorical":
            decoded = decoded.unflatten(1, (self.config.num_levels, self.config.in_channels))
        return decoded

    def decode(self, latents: Tensor) -> Tensor:
        """Mean of p(x|z): (batch, latent_dim) -> (batch, channels, height, width), meant for [-1, 1]."""
        decoded = self.decoder_parameters(latents)
        if self.config.likelihood == "bernoulli":
            return 2 * torch.sigmoid(decoded) - 1
        if self.config.likelihood == "categorical":
            levels = torch.linspace(-1, 1, self.config.num_levels, device=decoded.device, dtype=decoded.dtype)
            return torch.einsum("bl...,l->b...", decoded.softmax(1), levels)
        return decoded

    def negative_log_likelihood(self, sample: Tensor, decoded: Tensor, log_scale: Tensor) -> Tensor:
        """-log p(x|z), (batch,) nats; a density on the [-1, 1] scale for the Gaussian decoder.

        Args:
            sample: x, (batch, channels, height, width) in [-1, 1].
            decoded: As from `decoder_parameters`.
            log_scale: Log of s, as in `VAEOutput`.
        """
        if self.config.likelihood == "bernoulli":
            return bernoulli_nll(sample, decoded)
        if self.config.likelihood == "categorical":
            return categorical_nll(sample, decoded)
        return gaussian_nll(sample, decoded, log_scale)

    def forward(self, sample: Tensor, noise: Tensor, return_dict: bool = True) -> VAEOutput | tuple[Tensor, ...]:
        """Encode, draw z, decode.

        Args:
            sample: (batch, channels, height, width) in [-1, 1].
            noise: (batch, latent_dim), standard normal.
            return_dict: Return a `VAEOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        mean, log_std = self.posterior_parameters(sample)
        latents = mean + torch.exp(log_std) * noise
        decoded = self.decoder_parameters(latents)
        output = VAEOutput(mean, log_std, latents, decoded, self.log_scale)
        return output if return_dict else output.to_tuple()
