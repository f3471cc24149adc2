"""NICE (Dinh, Krueger & Bengio 2015, arXiv 1410.8516)."""

from __future__ import annotations

import math
from functools import partial

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.couplings import BuildNetwork, CouplingStack, HalfCoupling, beside, check_couplings, coupling_mlp
from ..blocks.flows import FlowLayer, FlowModel, FlowSequence, condition_dim
from ..sizes import SampleSize, sample_shape


class AdditiveCoupling(HalfCoupling):
    """The half that changes becomes x + m, where the other half gives m (section 3.2). (batch, dim).

    Args:
        dim: Of the sample; where it is odd, the first half has one more.
        first_changes: The first half changes; otherwise the last.
        build_network: (numbers in, numbers out) -> a network.
        context_dim: Numbers in the context; 0 for none.
    """

    def __init__(self, dim: int, first_changes: bool, build_network: BuildNetwork, context_dim: int = 0) -> None:
        super().__init__(dim, first_changes, build_network, num_outputs=1, context_dim=context_dim)

    def change(self, kept: Tensor, changing: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return changing + self.network(beside(kept, context)), kept.new_zeros(kept.shape[0], dtype=torch.float32)

    def restore(self, kept: Tensor, changed: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return changed - self.network(beside(kept, context)), kept.new_zeros(kept.shape[0], dtype=torch.float32)

    def generate_half(self, kept: Tensor, changed: Tensor, context: Tensor | None = None) -> Tensor:
        return changed - self.network(beside(kept, context))


class DiagonalScaling(FlowLayer):
    """z = exp(s) x with a learned s for each of the numbers in x (section 3.3). (batch, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(self.log_scale) * sample, self.log_scale.float().sum().expand(sample.shape[0])

    def inverse(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(-self.log_scale) * latents, -self.log_scale.float().sum().expand(latents.shape[0])

    def generate(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        return torch.exp(-self.log_scale) * latents


class NICE(FlowModel):
    """Additive couplings and one scaling, over vectors or flattened images; starts as the identity.

    The prior is N(0, I); the paper takes a logistic one for images. The halves are the even and the odd positions of
    the flattened sample, and in turn the odd ones and the even ones change; the latents hold the even positions first.
    The paper's networks (section 5.1) have five hidden layers of 1000 units on MNIST.

    Args:
        in_channels: Dimension of a vector, or channels of an image.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        num_levels: Grey levels by which the images are dequantised; None for continuous data.
        num_couplings: Couplings; at least 2, and at least 3 for every number to depend on every other (section 4.1).
        hidden_dims: Widths of the hidden layers of each coupling's network.
        num_classes: Classes, for a class-conditional flow: the couplings' networks see the class, too.
        context_dim: Numbers in a context that they see; None for none.

    Raises:
        UserError: Fewer than 2 couplings, fewer than 2 numbers to a sample, or a width or number below 1.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 2,
        sample_size: SampleSize | None = None,
        num_levels: int | None = None,
        num_couplings: int = 4,
        hidden_dims: tuple[int, ...] = (256, 256),
        num_classes: int | None = None,
        context_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = sample_shape(in_channels, sample_size)
        dim = math.prod(self.shape)
        check_couplings(num_couplings, dim)
        build_network = partial(coupling_mlp, hidden_dims=hidden_dims)
        seen = condition_dim(num_classes, context_dim)
        couplings = [AdditiveCoupling(dim, k % 2 == 1, build_network, seen) for k in range(num_couplings)]
        self.layers = FlowSequence([CouplingStack(couplings), DiagonalScaling(dim)])

    def encode(self, sample: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        flat = sample.flatten(1)
        latents, log_det = self.layers(
            torch.cat([flat[:, ::2], flat[:, 1::2]], dim=1), self.condition(labels, context)
        )
        return latents, log_det

    def decode(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves, log_det = self.layers.inverse(latents, self.condition(labels, context))
        return self.in_place(halves), log_det

    def decode_sample(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> Tensor:
        return self.in_place(self.layers.generate(latents, self.condition(labels, context)))

    def in_place(self, halves: Tensor) -> Tensor:
        """Even positions, then odd ones, (batch, dim) -> samples."""
        flat = torch.empty_like(halves)
        num_even = (halves.shape[1] + 1) // 2
        flat[:, ::2], flat[:, 1::2] = halves[:, :num_even], halves[:, num_even:]
        return flat.unflatten(1, self.shape)
