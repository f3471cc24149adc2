"""Coupling layers: one half of the channels stays, and says how the other half changes.

Sources: Dinh et al. 2015 (NICE, arXiv 1410.8516), Dinh et al. 2017 (RealNVP, arXiv 1605.08803); with a context that
the networks see, too, Ardizzone et al. 2019 (arXiv 1907.02392) and Winkler et al. 2019 (arXiv 1912.00042).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from ..errors import UserError
from .autoencoding import dense_layers
from .flows import FlowLayer, bound_log_scale, inverse_scale

BuildNetwork = Callable[[int, int], nn.Module]
ChangeHalf = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def check_couplings(num_couplings: int, dim: int) -> None:
    """Refuse couplings that cannot change every one of `dim` numbers.

    Raises:
        UserError: One line.
    """
    if num_couplings < 2:
        raise UserError(
            f"at least 2 couplings, --num_flow_steps, are needed to change both halves, got {num_couplings}"
        )
    if dim < 2:
        raise UserError(f"couplings need at least 2 numbers to a sample, one for each half, got {dim}")


def coupling_mlp(in_features: int, out_features: int, hidden_dims: Sequence[int]) -> nn.Sequential:
    """Linear + ReLU for each hidden width, and a last Linear that starts at zero: the coupling is the identity then.

    Raises:
        UserError: A width below 1.
    """
    widths = [in_features, *hidden_dims]
    hidden = dense_layers(widths, "relu")
    for activation in hidden[1::2]:
        assert isinstance(activation, nn.ReLU)
        activation.inplace = True  # no second tensor as large as the hidden layer, which a linear layer does not keep
    last = nn.Linear(widths[-1], out_features)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*hidden, last)


class HalfCoupling(FlowLayer):
    """A coupling whose halves are the first and the last channels of (batch, channels, ...).

    A subclass gives `change` and `restore`, and `generate_half` where that costs less.

    Args:
        num_channels: Of the sample, or its dimension; where it is odd, the first half has one more.
        first_changes: The first half changes; otherwise the last.
        build_network: (channels in, channels out) -> a network that reads the half that stays, and the context.
        num_outputs: Outputs of the network for each channel that changes.
        context_dim: Numbers in the context; 0 for none.
    """

    takes_context = True

    def __init__(
        self,
        num_channels: int,
        first_changes: bool,
        build_network: BuildNetwork,
        num_outputs: int,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.sizes = [num_channels - num_channels // 2, num_channels // 2]
        self.changing = 0 if first_changes else 1
        kept, changing = self.sizes[1 - self.changing], self.sizes[self.changing]
        self.network = build_network(kept + context_dim, num_outputs * changing)

    def change(self, kept: Tensor, changing: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the half that changes becomes, and log|det dz/dx|, (batch,)."""
        raise NotImplementedError

    def restore(self, kept: Tensor, changed: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The inverse of `change`."""
        raise NotImplementedError

    def generate_half(self, kept: Tensor, changed: Tensor, context: Tensor | None = None) -> Tensor:
        """What `restore` gives, without the log-determinant and without gradients."""
        return self.restore(kept, changed, context)[0]

    def forward(self, sample: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_to_halves(sample, self.sizes, [(self.changing, self.change)], context)

    def inverse(self, latents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_to_halves(latents, self.sizes, [(self.changing, self.restore)], context)

    def generate(self, latents: Tensor, context: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return generate_halves(latents, self.sizes, [self], context)


def beside(kept: Tensor, context: Tensor | None) -> Tensor:
    """What a coupling's network reads: (batch, channels, ...), at each pixel followed by (batch, context_dim)."""
    if context is None:
        return kept
    spread = context.to(kept.dtype).unflatten(1, (-1, *[1] * (kept.ndim - 2))).expand(-1, -1, *kept.shape[2:])
    return torch.cat([kept, spread], dim=1)


def channels_last_on_cpu(sample: Tensor) -> Tensor:
    """Images with their channels last in memory, which halves the time of convolutions on the CPU."""
    if sample.ndim == 4 and sample.device.type == "cpu":
        return sample.contiguous(memory_format=torch.channels_last)
    return sample


def apply_to_halves(
    sample: Tensor, sizes: list[int], steps: Sequence[tuple[int, ChangeHalf]], context: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Change halves one after the other; they are taken apart once and put together once.

    Args:
        sample: (batch, channels, ...).
        sizes: Channels of the two halves.
        steps: The half that changes, 0 or 1, and the function: (the other half, this half, context) -> this half
            changed, and the log-determinant (batch,).
        context: (batch, context_dim), or None.

    Returns:
        The sample, changed, and the sum of the log-determinants.
    """
    halves = list(sample.split(sizes, dim=1))
    log_dets = []
    for changing, change in steps:
        halves[changing], log_det = change(halves[1 - changing], halves[changing], context)
        log_dets.append(log_det)
    return torch.cat(halves, dim=1), reduce(torch.add, log_dets)


def generate_halves(
    latents: Tensor, sizes: list[int], couplings: Iterable[HalfCoupling], context: Tensor | None
) -> Tensor:
    """The samples of `apply_to_halves` with the couplings' inverses, in the order that they are given in."""
    halves = list(latents.split(sizes, dim=1))
    for layer in couplings:
        halves[layer.changing] = layer.generate_half(halves[1 - layer.changing], halves[layer.changing], context)
    return torch.cat(halves, dim=1)


class AffineCoupling(HalfCoupling):
    """The half that changes becomes exp(s) x + t, where the other half gives s and t.

    Dinh et al. 2017, equations 4 to 8. The paper bounds s by a tanh with a learned factor; here the bound is fixed, so
    that no coupling stretches by more than exp(scale_limit) and rounding stays small in the inverse.

    Args:
        num_channels: Of the sample, or its dimension; where it is odd, the first half has one more.
        first_changes: The first half changes; otherwise the last.
        build_network: (channels in, channels out) -> a network; its output is s before the bound, then t.
        scale_limit: s lies in [-scale_limit, scale_limit].
        context_dim: Numbers in the context; 0 for none.
    """

    def __init__(
        self,
        num_channels: int,
        first_changes: bool,
        build_network: BuildNetwork,
        scale_limit: float,
        context_dim: int = 0,
    ) -> None:
        super().__init__(num_channels, first_changes, build_network, num_outputs=2, context_dim=context_dim)
        self.scale_limit = scale_limit

    def scale_and_shift(self, kept: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """S in float32, and t."""
        raw, shift = self.network(beside(kept, context)).chunk(2, dim=1)
        return bound_log_scale(raw, self.scale_limit), shift

    def change(self, kept: Tensor, changing: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(kept, context)
        changed = torch.exp(log_scale) * changing + shift
        return changed.to(changing.dtype), log_scale.flatten(1).sum(1)

    def restore(self, kept: Tensor, changed: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.scale_and_shift(kept, context)
        restored = torch.exp(-log_scale) * (changed - shift)
        return restored.to(changed.dtype), -log_scale.flatten(1).sum(1)

    def generate_half(self, kept: Tensor, changed: Tensor, context: Tensor | None = None) -> Tensor:
        raw, shift = self.network(channels_last_on_cpu(beside(kept, context))).chunk(2, dim=1)
        return (changed - shift).mul_(inverse_scale(raw, self.scale_limit))


class CouplingStack(FlowLayer):
    """Couplings one after the other, without a copy of the half that each leaves alone.

    Args:
        couplings: At least one; all of the same number of channels.
    """

    takes_context = True

    def __init__(self, couplings: Sequence[HalfCoupling]) -> None:
        super().__init__()
        self.sizes = couplings[0].sizes
        self.couplings = nn.ModuleList(couplings)

    def forward(self, sample: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = [(layer.changing, layer.change) for layer in self.couplings]
        return apply_to_halves(sample, self.sizes, steps, context)  # type: ignore[arg-type]

    def inverse(self, latents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = [(layer.changing, layer.restore) for layer in reversed(self.couplings)]
        return apply_to_halves(latents, self.sizes, steps, context)  # type: ignore[arg-type]

    def generate(self, latents: Tensor, context: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return generate_halves(latents, self.sizes, reversed(self.couplings), context)  # type: ignore[arg-type]
