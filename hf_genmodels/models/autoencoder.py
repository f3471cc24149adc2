"""Autoencoders: linear (= PCA), MLP and convolutional, with the code's activation and sparsity part of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.autoencoding import ACTIVATIONS, Activation, build_head, build_trunk, check_sample
from ..blocks.outputs import UNSET
from ..checks import check_choice, check_widths
from ..choices import TrunkArchitecture, TrunkNorm
from ..sizes import SampleSize

LatentActivation = Literal["identity", "relu", "sigmoid"]


@dataclass
class AutoencoderOutput(BaseOutput):
    """What one pass through an autoencoder gives.

    Args:
        latents (`torch.Tensor` of shape `(batch, latent_dim)`): The code z.
        reconstruction (`torch.Tensor` of shape `(batch, channels, height, width)`): Unbounded, meant for [-1, 1].
        logits (`torch.Tensor` of shape `(batch, num_classes)`, *optional*): Of the supervised head, if there is one.
    """

    latents: Tensor
    reconstruction: Tensor = UNSET
    logits: Tensor | None = None


class Autoencoder(ModelMixin, ConfigMixin):
    """z = f(x), x^ = g(z), over images or vectors.

    With architecture "linear" both maps are affine, and the squared error's optimum spans the PCA subspace (Baldi &
    Hornik 1989). "mlp" and "conv" are the trunks that the VAE uses too.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        latent_dim: Dimension of z.
        architecture: "linear", "mlp" or "conv".
        block_out_channels: Widths of the stride-2 convolutions ("conv").
        hidden_dims: Widths of the dense layers ("mlp", or after the convolutions of "conv"); the decoder mirrors them.
        norm: "batch", "group" or "none" ("conv").
        activation: "relu", "silu" or "tanh" ("mlp", "conv").
        latent_activation: On the code: "identity", "relu" or "sigmoid" (which KL sparsity needs).
        k_sparse: Keep the k largest entries of each code and set the others to zero (Makhzani & Frey 2013), in
            training and at inference; None keeps all.
        num_classes: Classes of a linear supervised head on z; None for no head.

    Raises:
        UserError: An unknown choice, a width below 1, `sample_size` too small for the number of blocks, or "conv" for
            vectors.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        sample_size: SampleSize | None = 28,
        latent_dim: int = 32,
        architecture: TrunkArchitecture = "conv",
        block_out_channels: tuple[int, ...] = (32, 64, 128),
        hidden_dims: tuple[int, ...] = (),
        norm: TrunkNorm = "batch",
        activation: Activation = "relu",
        latent_activation: LatentActivation = "identity",
        k_sparse: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("latent_activation", latent_activation, get_args(LatentActivation))
        check_widths("latent_dim", [latent_dim])
        dense = () if architecture == "linear" else tuple(hidden_dims)
        self.trunk = build_trunk(
            architecture,
            in_channels,
            sample_size,
            hidden_dims=dense,
            block_out_channels=block_out_channels,
            norm=norm,
            activation=activation,
        )
        self.to_latents = nn.Linear(self.trunk.out_features, latent_dim)
        self.squash = nn.Identity() if latent_activation == "identity" else ACTIVATIONS[latent_activation]()
        self.decoder = build_head(
            architecture,
            latent_dim,
            in_channels,
            sample_size,
            hidden_dims=dense[::-1],
            block_out_channels=block_out_channels,
            norm=norm,
            activation=activation,
        )
        self.classifier = None if num_classes is None else nn.Linear(latent_dim, num_classes)
        self.register_load_state_dict_pre_hook(_rename_old_keys)

    def _fix_state_dict_keys_on_load(self, state_dict: dict[str, Tensor]) -> None:
        """What diffusers calls with the weights of a file."""
        super()._fix_state_dict_keys_on_load(state_dict)
        _rename_old_keys(self, state_dict)

    def encode(self, sample: Tensor) -> Tensor:
        """z: (batch, channels, height, width) in [-1, 1] -> (batch, latent_dim)."""
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        latents: Tensor = self.squash(self.to_latents(self.trunk(sample)))
        if self.config.k_sparse is not None:
            kept = latents.topk(self.config.k_sparse, dim=1)
            latents = torch.zeros_like(latents).scatter(1, kept.indices, kept.values)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """x^: (batch, latent_dim) -> (batch, channels, height, width)."""
        decoded: Tensor = self.decoder(latents)
        return decoded

    def forward(self, sample: Tensor, return_dict: bool = True) -> AutoencoderOutput | tuple[Tensor, ...]:
        """Encode and decode.

        Args:
            sample: (batch, channels, height, width) in [-1, 1], or (batch, dim).
            return_dict: Return an `AutoencoderOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        latents = self.encode(sample)
        logits = None if self.classifier is None else self.classifier(latents)
        output = AutoencoderOutput(latents, self.decode(latents), logits)
        return output if return_dict else output.to_tuple()


def _rename_old_keys(network: Autoencoder, state_dict: dict[str, Tensor], prefix: str = "", *_: object) -> None:
    """Read weights of earlier versions, whose layer `code` could not be exported: a `torch.fx.GraphModule` has one."""
    for name in ("weight", "bias"):
        if (old := f"{prefix}code.{name}") in state_dict:
            state_dict[f"{prefix}to_latents.{name}"] = state_dict.pop(old)
