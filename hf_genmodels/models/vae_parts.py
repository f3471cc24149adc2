"""Encoder and decoder of a trained VAE as two networks, for the families that take these apart."""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import EncoderOutput, GeneratorOutput
from ..blocks.autoencoding import Activation, build_trunk, check_sample
from ..choices import Likelihood, TrunkNorm
from ..sizes import SampleSize
from .vae import VAE, Architecture

SHARED = ("sample_size", "latent_dim", "architecture", "block_out_channels", "hidden_dims", "norm", "activation")


class VAEEncoder(ModelMixin, ConfigMixin):
    """q(z|x) of a `VAE`, whose arguments these are.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        latent_dim: Dimension of z.
        architecture: "conv" or "mlp".
        block_out_channels: Widths of the stride-2 convolutions.
        hidden_dims: Widths of the dense layers.
        norm: "batch", "group" or "none", in the convolutional network only.
        activation: "relu", "silu" or "tanh".

    Raises:
        UserError: As `VAE`.
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
        norm: TrunkNorm = "batch",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
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

    def forward(self, sample: Tensor, return_dict: bool = True) -> EncoderOutput | tuple[Tensor, ...]:
        """Encode.

        Args:
            sample: (batch, channels, height, width) in [-1, 1], or (batch, dim).
            return_dict: Return an `EncoderOutput`, whose `log_std` is (batch, latent_dim), instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        mean, log_std = self.posterior(self.trunk(sample)).chunk(2, dim=1)
        output = EncoderOutput(mean, log_std)
        return output if return_dict else output.to_tuple()


class VAEDecoder(ModelMixin, ConfigMixin):
    """Mean of p(x|z) of a `VAE`, whose arguments these are, as images in [-1, 1] or vectors.

    Args:
        out_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        latent_dim: Dimension of z.
        architecture: "conv" or "mlp".
        block_out_channels: Widths of the stride-2 convolutions, encoder order.
        hidden_dims: Widths of the encoder's dense layers.
        decoder_hidden_dims: Widths of the decoder's, in its order; None mirrors `hidden_dims`.
        norm: "batch", "group" or "none", in the convolutional network only.
        activation: "relu", "silu" or "tanh".
        likelihood: "gaussian", "bernoulli" or "categorical".
        num_levels: Grey levels of the categorical decoder.

    Raises:
        UserError: As `VAE`.
    """

    @register_to_config
    def __init__(
        self,
        out_channels: int = 1,
        sample_size: SampleSize | None = 28,
        latent_dim: int = 32,
        architecture: Architecture = "conv",
        block_out_channels: tuple[int, ...] = (32, 64, 128),
        hidden_dims: tuple[int, ...] = (),
        decoder_hidden_dims: tuple[int, ...] | None = None,
        norm: TrunkNorm = "batch",
        activation: Activation = "relu",
        likelihood: Likelihood = "gaussian",
        num_levels: int = 256,
    ) -> None:
        super().__init__()
        self.vae = VAE(
            in_channels=out_channels,
            sample_size=sample_size,
            latent_dim=latent_dim,
            architecture=architecture,
            block_out_channels=block_out_channels,
            hidden_dims=hidden_dims,
            decoder_hidden_dims=decoder_hidden_dims,
            norm=norm,
            activation=activation,
            likelihood=likelihood,
            num_levels=num_levels,
        )
        del self.vae.trunk, self.vae.posterior

    def forward(self, latents: Tensor, return_dict: bool = True) -> GeneratorOutput | tuple[Tensor, ...]:
        """Decode.

        Args:
            latents: z, (batch, latent_dim).
            return_dict: Return a `GeneratorOutput` instead of a tuple.
        """
        output = GeneratorOutput(self.vae.decode(latents))
        return output if return_dict else output.to_tuple()


def split_vae(vae: VAE) -> tuple[VAEEncoder, VAEDecoder]:
    """Encoder and decoder with the weights of a VAE, in eval mode."""
    shared = {name: vae.config[name] for name in SHARED}
    encoder = VAEEncoder(in_channels=vae.config.in_channels, **shared)
    decoder = VAEDecoder(
        out_channels=vae.config.in_channels,
        decoder_hidden_dims=vae.config.decoder_hidden_dims,
        likelihood=vae.config.likelihood,
        num_levels=vae.config.num_levels,
        **shared,
    )
    weights = vae.state_dict()
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    decoder.vae.load_state_dict({name: weights[name] for name in decoder.vae.state_dict()})
    return encoder.eval(), decoder.eval()
