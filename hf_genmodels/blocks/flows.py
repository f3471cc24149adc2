"""What every normalizing flow is made of: bijections whose `forward` and `inverse` return (z, log_det).

Sources: Dinh et al. 2017 (RealNVP, arXiv 1605.08803), Kingma & Dhariwal 2018 (Glow, arXiv 1807.03039), Papamakarios et
al. 2021 (the change of variables, arXiv 1912.02762).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..checks import check_widths
from ..errors import UserError
from ..losses.likelihood import standard_normal_log_density
from ..sizes import sample_shape
from .autoencoding import check_sample
from .outputs import UNSET
from .recomputation import call_block

Reduce = Callable[[Tensor], Tensor]

# What keeps ActNorm's initialisation from blowing up channels that a first batch shows as constant.
FEWEST_VALUES, LARGEST_LOG_SCALE = 16, 3.0


def in_float32(sample: Tensor) -> torch.autocast:
    """What keeps a bijection's own arithmetic out of mixed precision, which rounds the operands of matrix products.

    Its inverse would be no inverse, and its log-determinant that of another map. The networks inside couplings may be
    rounded: whatever they give, a coupling is a bijection.
    """
    return torch.autocast(sample.device.type, enabled=False)


class FlowLayer(nn.Module):
    """A bijection x -> z of whole batches.

    `forward(x)` returns z and log|det dz/dx|, `inverse(z)` returns x and log|det dx/dz|; the log-determinants are
    (batch,) float32, and their sum is zero. Layers with `takes_context` have a second argument, (batch, context_dim)
    or None: what the bijection depends on.
    """

    takes_context: ClassVar[bool] = False

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """X -> z, log|det dz/dx|."""
        raise NotImplementedError

    def inverse(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Z -> x, log|det dx/dz|."""
        raise NotImplementedError

    def generate(self, latents: Tensor, *context: Tensor | None) -> Tensor:
        """The x of `inverse` alone, for sampling; it takes what `inverse` takes, and no gradients go through it."""
        return self.inverse(latents, *context)[0]


class FlowSequence(FlowLayer):
    """Bijections one after the other."""

    takes_context = True
    gradient_checkpointing = False

    def __init__(self, layers: list[FlowLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, sample: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = sample.new_zeros(sample.shape[0], dtype=torch.float32)
        for layer in self.layers:
            given = (sample, context) if layer.takes_context else (sample,)
            sample, change = call_block(self, layer, *given)
            log_det = log_det + change
        return sample, log_det

    def inverse(self, latents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = latents.new_zeros(latents.shape[0], dtype=torch.float32)
        for layer in reversed(self.layers):
            given = (latents, context) if layer.takes_context else (latents,)
            latents, change = layer.inverse(*given)  # type: ignore[operator]
            log_det = log_det + change
        return latents, log_det

    def generate(self, latents: Tensor, context: Tensor | None = None) -> Tensor:  # type: ignore[override]
        for layer in reversed(self.layers):
            given = (latents, context) if layer.takes_context else (latents,)
            latents = layer.generate(*given)  # type: ignore[operator]
        return latents


class ActNorm(FlowLayer):
    """An affine map of each channel, z = exp(log_scale) (x + bias) (Kingma & Dhariwal 2018, section 3.1).

    The identity until `FlowModel.initialize` sets it so that z has mean zero and variance one on a first batch. That
    it has been set is a saved buffer, so neither loading nor resuming does it again.

    Args:
        num_channels: Channels of (batch, channels, height, width), or the dimension of (batch, dim).
    """

    initialized: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.log_scale = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("initialized", torch.tensor(False))
        self.reduce: Reduce | None = None  # given while the network is initialised

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        if self.reduce is not None and not self.initialized:
            self.initialize(sample, self.reduce)
        bias, log_scale = self.along_channels(self.bias, sample), self.along_channels(self.log_scale, sample)
        return torch.exp(log_scale) * (sample + bias), self.log_det(sample)

    def inverse(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        bias, log_scale = self.along_channels(self.bias, latents), self.along_channels(self.log_scale, latents)
        return torch.exp(-log_scale) * latents - bias, -self.log_det(latents)

    def generate(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        bias, log_scale = self.along_channels(self.bias, latents), self.along_channels(self.log_scale, latents)
        return torch.addcmul(-bias, torch.exp(-log_scale), latents)

    @torch.no_grad()
    def initialize(self, sample: Tensor, reduce: Reduce) -> None:
        """Take mean and standard deviation of this batch, over all processes.

        Raises:
            UserError: The batch says too little of a channel.
        """
        if sample[:, 0].numel() < FEWEST_VALUES:
            raise UserError(
                f"a first batch of {len(sample)} leaves {sample[:, 0].numel()} values to set an ActNorm's channel by; "
                f"give at least {math.ceil(FEWEST_VALUES / sample[0, 0].numel())} examples (--train_batch_size)"
            )
        dims = [dim for dim in range(sample.ndim) if dim != 1]
        mean = reduce(sample.float().mean(dims))
        variance = reduce(sample.float().square().mean(dims)) - mean.square()
        self.bias.copy_(-mean)
        self.log_scale.copy_(-0.5 * torch.log(variance.clamp(min=math.exp(-2 * LARGEST_LOG_SCALE))))
        self.initialized.fill_(True)

    def log_det(self, sample: Tensor) -> Tensor:
        """log|det dz/dx| of a batch like `sample`, (batch,)."""
        positions = sample[0, 0].numel()
        return (self.log_scale.float().sum() * positions).expand(sample.shape[0])

    @staticmethod
    def along_channels(values: Tensor, sample: Tensor) -> Tensor:
        """(channels,) -> a shape that broadcasts against the sample."""
        return values.view(1, -1, *[1] * (sample.ndim - 2))


def check_scale_limit(scale_limit: float) -> None:
    """Refuse a bound of log-scales that is none.

    Raises:
        UserError: It is not positive and finite.
    """
    if not 0 < scale_limit < math.inf:
        raise UserError(f"scale_limit must be positive and finite, got {scale_limit}")


def bound_log_scale(raw: Tensor, limit: float) -> Tensor:
    """Limit * tanh(raw / limit) in float32: the identity around zero, never beyond +-limit."""
    return limit * torch.tanh(raw.float() / limit)


def inverse_scale(raw: Tensor, limit: float) -> Tensor:
    """exp(-`bound_log_scale`) in one new tensor, float32; without gradients.

    Of vectors by tanh(x) = 1 - 2 sigmoid(-2 x), which costs a sixth of a tanh on the CPU, and one rounding of 2e-7; in
    networks of images neither counts for much, and the couplings are many.
    """
    if raw.ndim == 2:
        return torch.mul(raw.float(), -2 / limit).sigmoid_().sub_(0.5).mul_(2 * limit).exp_()
    return torch.div(raw.float(), limit).tanh_().mul_(-limit).exp_()


@dataclass
class FlowOutput(BaseOutput):
    """What one pass through a flow gives.

    Args:
        latents (`torch.Tensor` of shape `(batch, dim)`): z, standard normal under the model; dim is that of the data.
        log_det (`torch.Tensor` of shape `(batch,)`): log|det dz/dx|, float32.
        log_likelihood (`torch.Tensor` of shape `(batch,)`): log p(x) = log N(z; 0, I) + log_det, nats, a density over
            what the network takes, float32.
    """

    latents: Tensor
    log_det: Tensor = UNSET
    log_likelihood: Tensor = UNSET


class FlowModel(ModelMixin, ConfigMixin):
    """Base of the flows: an invertible network x -> z with z ~ N(0, I).

    A learned prior is one more bijection that makes its part of z standard normal, so that z always is. Latents are
    flat, (batch, dim), those of earlier scales last. Configurations have `in_channels`, `sample_size` (None for
    vectors), `num_levels` (grey levels by which images are dequantised, see `losses.dequantization`; None where the
    data are continuous), `num_classes` (None without classes) and `context_dim` (None without a context).

    A subclass gives `encode` and `decode`, and `decode_sample` where a sample costs less without its log-determinant.
    """

    _supports_gradient_checkpointing = True  # by its `FlowSequence`s

    def encode(self, sample: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """X -> z (batch, dim), log|det dz/dx| (batch,)."""
        raise NotImplementedError

    def decode(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Z (batch, dim) -> x, log|det dx/dz| (batch,)."""
        raise NotImplementedError

    def decode_sample(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> Tensor:
        """The x of `decode` alone; it need not let gradients through."""
        return self.decode(latents, labels, context)[0]

    def forward(
        self,
        sample: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        return_dict: bool = True,
    ) -> FlowOutput | tuple[Tensor, ...]:
        """Latents and log-density, given the labels and the context.

        Args:
            sample: x, (batch, dim), or (batch, channels, height, width) dequantised to [-1/2, 1/2).
            labels: (batch,) int64, of a class-conditional flow only.
            context: (batch, context_dim) of any values, of a flow with a `context_dim` only.
            return_dict: Return a `FlowOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for, or labels or a context are missing,
                have another shape or mean nothing here.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        self.check_labels(labels, sample.shape[0])
        self.check_context(context, sample.shape[0])
        latents, log_det = self.encode(sample, labels, context)
        output = FlowOutput(latents, log_det, standard_normal_log_density(latents) + log_det)
        return output if return_dict else output.to_tuple()

    def inverse(
        self, latents: Tensor, labels: Tensor | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Z (batch, dim) -> x as `forward` takes it, log|det dx/dz| (batch,).

        Raises:
            UserError: Latents of another dimension; or of labels and context as `forward`.
        """
        self.check_latents(latents, labels, context)
        return self.decode(latents, labels, context)

    @torch.no_grad()
    def generate(self, latents: Tensor, labels: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """The x of `inverse` alone, to rounding, for sampling: without log-determinants, and without gradients.

        Raises:
            UserError: As `inverse`.
        """
        self.check_latents(latents, labels, context)
        return self.decode_sample(latents, labels, context)

    @property
    def dim(self) -> int:
        """Numbers in one sample, and in its latent."""
        return math.prod(sample_shape(self.config.in_channels, self.config.sample_size))

    def check_latents(self, latents: Tensor, labels: Tensor | None, context: Tensor | None) -> None:
        """Refuse latents of another dimension, and labels or a context that do not go with them or the network.

        Raises:
            UserError: One line.
        """
        if latents.ndim != 2 or latents.shape[1] != self.dim:
            raise UserError(f"latents must be (batch, {self.dim}), got {tuple(latents.shape)}")
        self.check_labels(labels, latents.shape[0])
        self.check_context(context, latents.shape[0])

    def check_labels(self, labels: Tensor | None, batch_size: int) -> None:
        """Refuse labels that do not go with the network.

        Raises:
            UserError: One line.
        """
        num_classes = self.config.get("num_classes")
        if (labels is None) != (num_classes is None):
            trained = "without classes" if num_classes is None else f"with {num_classes} classes"
            raise UserError(f"the flow was built {trained}: {'give labels' if labels is None else 'leave labels out'}")
        if labels is not None and (labels.is_floating_point() or labels.shape != (batch_size,)):
            raise UserError(f"labels must be {batch_size} whole numbers, got {tuple(labels.shape)} {labels.dtype}")

    def check_context(self, context: Tensor | None, batch_size: int) -> None:
        """Refuse a context that does not go with the network.

        Raises:
            UserError: One line.
        """
        dim = self.config.get("context_dim")
        if (context is None) != (dim is None):
            built = "without a context" if dim is None else f"with a context of {dim} numbers"
            raise UserError(f"the flow was built {built}: {'give one' if context is None else 'leave it out'}")
        if context is not None and (not context.is_floating_point() or context.shape != (batch_size, dim)):
            raise UserError(f"context must be ({batch_size}, {dim}), got {tuple(context.shape)} {context.dtype}")

    def condition(self, labels: Tensor | None, context: Tensor | None) -> Tensor | None:
        """What couplings see beside the half that stays: the class as a one among zeros, and the context.

        (batch, condition_dim), or None where there is neither.
        """
        parts = [] if context is None else [context]
        if labels is not None:
            parts.insert(0, F.one_hot(labels, self.config.num_classes).to(self.dtype))
        return torch.cat(parts, dim=1) if parts else None

    @torch.no_grad()
    def initialize(self, sample: Tensor, labels: Tensor | None, reduce: Reduce, context: Tensor | None = None) -> None:
        """Data-dependent initialisation of every `ActNorm` that has not had one.

        Args:
            sample: A first batch, as for `forward`.
            labels: Its labels, as for `forward`.
            reduce: Averages a tensor over all processes.
            context: Its context, as for `forward`.
        """
        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        for norm in norms:
            norm.reduce = reduce
        try:
            self(sample, labels, context)
        finally:
            for norm in norms:
                norm.reduce = None


def condition_dim(num_classes: int | None, context_dim: int | None) -> int:
    """Numbers in `FlowModel.condition`.

    Raises:
        UserError: There are classes or a context, but fewer than one.
    """
    for name, number in (("num_classes", num_classes), ("context_dim", context_dim)):
        check_widths(name, [] if number is None else [number])
    return (num_classes or 0) + (context_dim or 0)
