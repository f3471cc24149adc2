"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803)."""

from __future__ import annotations

import math
from functools import partial

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.couplings import (
    AffineCoupling,
    BuildNetwork,
    CouplingStack,
    beside,
    channels_last_on_cpu,
    check_couplings,
    coupling_mlp,
)
from ..blocks.flows import (
    ActNorm,
    FlowLayer,
    FlowModel,
    FlowSequence,
    bound_log_scale,
    check_scale_limit,
    condition_dim,
    inverse_scale,
)
from ..blocks.image_flows import Squeeze, check_squeezable
from ..checks import check_widths
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words


class ResidualBlock(nn.Module):
    """h + conv 3x3 (relu (conv 3x3 (relu h))), (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.layers(hidden)


def residual_net(in_channels: int, out_channels: int, hidden_channels: int, num_blocks: int) -> nn.Sequential:
    """Conv 3x3, residual blocks, relu, and a conv 1x1 that starts at zero: the coupling is the identity then."""
    last = nn.Conv2d(hidden_channels, out_channels, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    blocks = [ResidualBlock(hidden_channels) for _ in range(num_blocks)]
    return nn.Sequential(nn.Conv2d(in_channels, hidden_channels, 3, padding=1), *blocks, nn.ReLU(), last)


class CheckerboardCoupling(FlowLayer):
    """Positions of one colour of a checkerboard change to exp(s) x + t, where those of the other colour give s and t.

    Equation 9 and figure 3, left. (batch, channels, height, width).

    Args:
        num_channels: Of the sample.
        sample_size: Its height and width, one number for a square.
        even_changes: The positions whose row and column have an even sum change; otherwise the others.
        build_network: (channels in, channels out) -> a network; its output is s before the bound, then t.
        scale_limit: s lies in [-scale_limit, scale_limit].
        context_dim: Numbers in the context; 0 for none.
    """

    takes_context = True
    changes: Tensor

    def __init__(
        self,
        num_channels: int,
        sample_size: SampleSize,
        even_changes: bool,
        build_network: BuildNetwork,
        scale_limit: float,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        rows, columns = (torch.arange(side) for side in height_width(sample_size))
        even = (rows[:, None] + columns) % 2 == 0
        self.register_buffer("changes", even if even_changes else ~even, persistent=False)
        self.network = build_network(num_channels + context_dim, 2 * num_channels)
        self.scale_limit = scale_limit

    def scale_and_shift(self, sample: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """S in float32, and t, both zero where the positions stay."""
        raw, shift = self.network(beside(sample * ~self.changes, context)).chunk(2, dim=1)
        return bound_log_scale(raw, self.scale_limit) * self.changes, shift * self.changes

    def forward(self, sample: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(sample, context)
        latents = torch.exp(log_scale) * sample + shift
        return latents.to(sample.dtype), log_scale.flatten(1).sum(1)

    def inverse(self, latents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(latents, context)
        sample = torch.exp(-log_scale) * (latents - shift)
        return sample.to(latents.dtype), -log_scale.flatten(1).sum(1)

    def generate(self, latents: Tensor, context: Tensor | None = None) -> Tensor:  # type: ignore[override]
        kept = channels_last_on_cpu(beside(latents * ~self.changes, context))
        raw, shift = self.network(kept).chunk(2, dim=1)
        return torch.where(self.changes, (latents - shift).mul_(inverse_scale(raw, self.scale_limit)), latents)


class MultiScale(FlowLayer):
    """Every scale but the last gives half of its channels away as latents (section 3.6, equations 13 to 16).

    (batch, channels, height, width) -> (batch, dim), latents of earlier scales last.

    Args:
        scales: The bijections of each scale.
        shapes: (channels, height, width) of the latents that each scale gives.
    """

    takes_context = True

    def __init__(self, scales: list[FlowSequence], shapes: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(scales)
        self.shapes = shapes[::-1]

    def forward(self, sample: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *earlier, last = self.scales
        log_det, given = 0, []
        for scale in earlier:
            sample, change = scale(sample, context)
            sample, latents = sample.chunk(2, dim=1)
            log_det = log_det + change
            given.append(latents)
        sample, change = last(sample, context)
        return torch.cat([part.flatten(1) for part in [sample, *given[::-1]]], dim=1), log_det + change

    def inverse(self, latents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *earlier, last = self.scales
        first, *given = self.parts(latents)
        sample, log_det = last.inverse(first, context)  # type: ignore[operator]
        for scale, part in zip(earlier[::-1], given, strict=True):
            sample, change = scale.inverse(torch.cat([sample, part], dim=1), context)  # type: ignore[operator]
            log_det = log_det + change
        return sample, log_det

    def generate(self, latents: Tensor, context: Tensor | None = None) -> Tensor:  # type: ignore[override]
        *earlier, last = self.scales
        first, *given = self.parts(latents)
        sample: Tensor = last.generate(first, context)  # type: ignore[operator]
        for scale, part in zip(earlier[::-1], given, strict=True):
            sample = scale.generate(torch.cat([sample, part], dim=1), context)  # type: ignore[operator]
        return sample

    def parts(self, latents: Tensor) -> list[Tensor]:
        """Latents of each scale, (batch, channels, height, width), those of the last scale first."""
        parts = latents.split([math.prod(shape) for shape in self.shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]


class RealNVP(FlowModel):
    """Affine couplings, over vectors or images; starts as the identity. The prior is N(0, I).

    Vectors: halves that change in turn, one dense network for each coupling, which gives s and t together.

    Images: each scale has 3 checkerboard couplings, a squeeze, 3 couplings of half of the channels, and gives half of
    its channels away; the last has 4 checkerboard couplings (section 3.6). Where the paper normalises by the batch,
    inside its networks and between the couplings, there is an `ActNorm` before each coupling, set on the first batch.
    Nor are there the paper's logit of the images and its weight normalisation, and the networks are equally wide in
    every scale, where the paper doubles them.

    Args:
        in_channels: Dimension of a vector, or channels of an image.
        sample_size: Height and width of an image, one number for a square, which takes num_scales - 1 halvings;
            None for vectors.
        num_levels: Grey levels by which the images are dequantised; None for continuous data.
        num_couplings: Of vectors: couplings.
        hidden_dims: Of vectors: widths of the hidden layers of each coupling's network.
        num_scales: Of images: scales.
        hidden_channels: Of images: width of each coupling's network.
        num_blocks: Of images: residual blocks of each coupling's network.
        scale_limit: Bound of |s|: one coupling stretches by a factor of at most exp(scale_limit).
        num_classes: Classes, for a class-conditional flow: the couplings' networks see the class, too.
        context_dim: Numbers in a context that they see; None for none.

    Raises:
        UserError: Fewer than 2 couplings, vectors of one number, a width or number below 1, images that cannot be
            halved so often, or a `scale_limit` that is not positive and finite.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 2,
        sample_size: SampleSize | None = None,
        num_levels: int | None = None,
        num_couplings: int = 8,
        hidden_dims: tuple[int, ...] = (64, 64),
        num_scales: int = 2,
        hidden_channels: int = 64,
        num_blocks: int = 2,
        scale_limit: float = 2.0,
        num_classes: int | None = None,
        context_dim: int | None = None,
    ) -> None:
        super().__init__()
        check_scale_limit(scale_limit)
        seen = condition_dim(num_classes, context_dim)
        if sample_size is None:
            check_couplings(num_couplings, in_channels)
            dense = partial(coupling_mlp, hidden_dims=hidden_dims)
            self.layers: CouplingStack | MultiScale = CouplingStack(
                [AffineCoupling(in_channels, k % 2 == 1, dense, scale_limit, seen) for k in range(num_couplings)]
            )
            return
        check_widths("num_scales", [num_scales])
        check_widths("hidden_channels", [hidden_channels])
        if num_blocks < 0:
            raise UserError(f"num_blocks must be at least 0, got {num_blocks}")
        if num_scales > 1:
            check_squeezable(sample_size, num_scales - 1)
        size = height_width(sample_size)
        if min(size) >> (num_scales - 1) < 2:
            raise UserError(
                f"sample_size {in_words(sample_size)} leaves scale {num_scales} one pixel, which is no checkerboard: "
                "give a smaller num_scales"
            )
        convolutional = partial(residual_net, hidden_channels=hidden_channels, num_blocks=num_blocks)
        self.layers = image_layers(in_channels, size, num_scales, convolutional, scale_limit, seen)

    def encode(self, sample: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents, log_det = self.layers(sample, self.condition(labels, context))
        return latents, log_det

    def decode(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.layers.inverse(latents, self.condition(labels, context))

    def decode_sample(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> Tensor:
        return self.layers.generate(latents, self.condition(labels, context))


def image_layers(
    channels: int,
    size: tuple[int, int],
    num_scales: int,
    build_network: BuildNetwork,
    scale_limit: float,
    context_dim: int,
) -> MultiScale:
    """The bijections of images, for the arguments see `RealNVP`."""

    def checkerboards(count: int) -> list[FlowLayer]:
        layers: list[FlowLayer] = []
        for k in range(count):
            coupling = CheckerboardCoupling(channels, size, k % 2 == 1, build_network, scale_limit, context_dim)
            layers += [ActNorm(channels), coupling]
        return layers

    scales, shapes = [], []
    for _ in range(num_scales - 1):
        layers = [*checkerboards(3), Squeeze()]
        channels, size = 4 * channels, (size[0] // 2, size[1] // 2)
        for k in range(3):
            coupling = AffineCoupling(channels, k % 2 == 1, build_network, scale_limit, context_dim)
            layers += [ActNorm(channels), coupling]
        channels //= 2
        scales.append(FlowSequence(layers))
        shapes.append((channels, *size))
    scales.append(FlowSequence(checkerboards(4)))
    shapes.append((channels, *size))
    return MultiScale(scales, shapes)
