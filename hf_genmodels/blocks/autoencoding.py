"""Trunks of encoders and decoders: from an image or a vector to features, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from ..checks import check_choice, check_widths
from ..choices import TrunkNorm
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words, sample_shape

Activation = Literal["relu", "silu", "tanh"]
ARCHITECTURES = ("linear", "mlp", "conv")
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def norm_layer(norm: str, channels: int) -> nn.Module:
    """A layer over (batch, channels, ...): "batch", "group" (of 8 channels, or all of them) or "none"."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)
    return nn.Identity()


def dense_layers(widths: Sequence[int], activation: str) -> list[nn.Module]:
    """Linear + activation from each width to the next; no layers for a single width.

    Raises:
        UserError: A width below 1, or an unknown activation.
    """
    check_widths("hidden_dims", widths[1:])
    check_choice("activation", activation, get_args(Activation))
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), ACTIVATIONS[activation]()]
    return layers


def halvings(sample_size: SampleSize, num_halvings: int) -> list[tuple[int, int]]:
    """Sizes after 0, 1, ... convolutions of kernel 4, stride 2, padding 1: each is half the one before, rounded down.

    As (height, width).

    Raises:
        UserError: The image is too small for that many.
    """
    height, width = height_width(sample_size)
    sizes = [(height >> k, width >> k) for k in range(num_halvings + 1)]
    if min(sizes[-1]) < 1:
        raise UserError(
            f"resolution {in_words(sample_size)} is too small for {num_halvings} stride-2 blocks "
            f"(block_out_channels): use a sample_size (--resolution) of {2**num_halvings} or more, or fewer blocks"
        )
    return sizes


class MLPTrunk(nn.Sequential):
    """Flatten, then Linear + activation for each hidden width.

    (batch, channels, height, width) or (batch, dim) -> (batch, out_features).
    """

    def __init__(self, in_features: int, hidden_dims: Sequence[int], activation: str) -> None:
        super().__init__(nn.Flatten(), *dense_layers([in_features, *hidden_dims], activation))
        self.out_features = hidden_dims[-1] if hidden_dims else in_features


class ConvTrunk(nn.Sequential):
    """DCGAN-style: Conv 4x4 stride 2, norm (not after the first), activation for each width; flatten; dense layers.

    (batch, channels, height, width) -> (batch, out_features).
    """

    def __init__(
        self,
        in_channels: int,
        sample_size: SampleSize,
        block_out_channels: Sequence[int],
        dense_dims: Sequence[int],
        norm: str,
        activation: str,
    ) -> None:
        sizes = halvings(sample_size, len(block_out_channels))
        layers: list[nn.Module] = []
        for index, (width_in, width_out) in enumerate(pairwise([in_channels, *block_out_channels])):
            normed = norm != "none" and index > 0
            layers.append(nn.Conv2d(width_in, width_out, 4, stride=2, padding=1, bias=not normed))
            if normed:
                layers.append(norm_layer(norm, width_out))
            layers.append(ACTIVATIONS[activation]())
        flat = block_out_channels[-1] * math.prod(sizes[-1])
        super().__init__(*layers, nn.Flatten(), *dense_layers([flat, *dense_dims], activation))
        self.out_features = dense_dims[-1] if dense_dims else flat


class MLPHead(nn.Sequential):
    """Linear + activation for each hidden width, a last Linear, reshape.

    (batch, latent_dim) -> (batch, *out_shape).
    """

    def __init__(self, latent_dim: int, hidden_dims: Sequence[int], out_shape: Sequence[int], activation: str) -> None:
        widths = [latent_dim, *hidden_dims]
        super().__init__(
            *dense_layers(widths, activation),
            nn.Linear(widths[-1], math.prod(out_shape)),
            nn.Unflatten(1, tuple(out_shape)),
        )


class ConvHead(nn.Sequential):
    """The mirror of `ConvTrunk`: dense layers to the smallest map, then ConvTranspose 4x4 stride 2, norm, activation.

    The last layer has neither norm nor activation. (batch, latent_dim) -> (batch, out_channels, height,
    width).
    """

    def __init__(
        self,
        latent_dim: int,
        out_channels: int,
        sample_size: SampleSize,
        block_out_channels: Sequence[int],
        dense_dims: Sequence[int],
        norm: str,
        activation: str,
    ) -> None:
        sizes = halvings(sample_size, len(block_out_channels))[::-1]
        widths = list(block_out_channels)[::-1]
        smallest = (widths[0], *sizes[0])
        layers: list[nn.Module] = [
            *dense_layers([latent_dim, *dense_dims, math.prod(smallest)], activation),
            nn.Unflatten(1, smallest),
        ]
        for index, (width_in, width_out) in enumerate(pairwise([*widths, out_channels])):
            last = index == len(widths) - 1
            normed = norm != "none" and not last
            # An odd size lost its last row when it was halved; output_padding gives it back.
            (height, width), (height_after, width_after) = sizes[index : index + 2]
            odd = (height_after - 2 * height, width_after - 2 * width)
            layers.append(
                nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1, output_padding=odd, bias=not normed)
            )
            if normed:
                layers.append(norm_layer(norm, width_out))
            if not last:
                layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers)


def check_layers(architecture: str, block_out_channels: Sequence[int], norm: str, activation: str) -> None:
    """Refuse choices that would silently build another network.

    Raises:
        UserError: An unknown choice, or convolutions that are none or have no channels.
    """
    check_choice("architecture", architecture, ARCHITECTURES)
    check_choice("norm", norm, get_args(TrunkNorm))
    check_choice("activation", activation, get_args(Activation))
    if architecture == "conv":
        check_widths("block_out_channels", block_out_channels)
        if not block_out_channels:
            raise UserError("architecture conv needs at least one width in block_out_channels")


def build_trunk(
    architecture: str,
    in_channels: int,
    sample_size: SampleSize | None,
    *,
    hidden_dims: Sequence[int],
    block_out_channels: Sequence[int],
    norm: str,
    activation: str,
) -> MLPTrunk | ConvTrunk:
    """The encoder's trunk: "conv" (`block_out_channels`, then `hidden_dims` dense layers), else dense layers alone.

    Raises:
        UserError: An unknown choice, a width below 1, no convolution, an image too small, or "conv" for vectors.
    """
    check_layers(architecture, block_out_channels, norm, activation)
    if architecture == "conv":
        if sample_size is None:
            raise UserError("architecture conv needs images, but the data are vectors; use mlp (--architecture mlp)")
        return ConvTrunk(in_channels, sample_size, block_out_channels, hidden_dims, norm, activation)
    return MLPTrunk(math.prod(sample_shape(in_channels, sample_size)), hidden_dims, activation)


def build_head(
    architecture: str,
    latent_dim: int,
    out_channels: int,
    sample_size: SampleSize | None,
    *,
    hidden_dims: Sequence[int],
    block_out_channels: Sequence[int],
    norm: str,
    activation: str,
) -> MLPHead | ConvHead:
    """The decoder that mirrors `build_trunk`; `hidden_dims` in the decoder's own order.

    Raises:
        UserError: As `build_trunk`.
    """
    check_layers(architecture, block_out_channels, norm, activation)
    if architecture == "conv":
        assert sample_size is not None  # build_trunk, called first, has refused vectors
        return ConvHead(latent_dim, out_channels, sample_size, block_out_channels, hidden_dims, norm, activation)
    return MLPHead(latent_dim, hidden_dims, sample_shape(out_channels, sample_size), activation)


def check_sample(sample: Tensor, in_channels: int, sample_size: SampleSize | None) -> None:
    """Compare a batch with the shape a network was built for.

    Raises:
        UserError: The shapes differ; the message has both.
    """
    expected = sample_shape(in_channels, sample_size)
    if tuple(sample.shape[1:]) != expected:
        raise UserError(f"the network takes samples of shape {expected}, got {tuple(sample.shape[1:])}")
