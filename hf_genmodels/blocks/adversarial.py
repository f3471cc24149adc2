"""Layers of generators and discriminators: class conditioning, packing, normalisation, initialisation, outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm

from ..checks import check_choice, check_widths
from ..choices import NormStatistics
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words
from .minibatch import MinibatchDiscrimination
from .norms import InstanceNorm2d, instance_norm
from .outputs import UNSET

# what a network needs labels in `forward` for; an "acgan" discriminator predicts them instead
CONDITIONED = ("concat", "batch_norm", "projection")


@dataclass
class GeneratorOutput(BaseOutput):
    """What one pass through a generator gives.

    Args:
        sample (`torch.Tensor`): (batch, channels, height, width) in [-1, 1], or (batch, dim), unbounded.
    """

    sample: Tensor


@dataclass
class DiscriminatorOutput(BaseOutput):
    """What one pass through a discriminator gives; with packing, batch is the number of packs.

    Args:
        logits (`torch.Tensor` of shape `(batch,)`): Of "real"; a Wasserstein critic's score. Of a patch discriminator
            `(batch, 1, rows, columns)`, one for each patch.
        features (`torch.Tensor` of shape `(batch, channels, height, width)` or `(batch, width)`): Activations of a
            hidden layer, for losses that compare features.
        class_logits (`torch.Tensor` of shape `(batch, num_classes)`, *optional*): Of an "acgan" network.
    """

    logits: Tensor
    features: Tensor = UNSET
    class_logits: Tensor | None = None


@dataclass
class EncoderOutput(BaseOutput):
    """What one pass through an encoder gives.

    Args:
        mean (`torch.Tensor` of shape `(batch, latent_dim)`): mu(x).
        log_std (`torch.Tensor` of shape `(latent_dim,)` or `(batch, latent_dim)`, *optional*): log sigma, one for all
            samples or one for each.
    """

    mean: Tensor
    log_std: Tensor | None = None


# class conditioning and packing --------------------------------------------------------------------------------------


def check_conditioning(network: str, conditioning: str, choices: Sequence[str], num_classes: int | None) -> None:
    """Compare a network's conditioning with those it knows and with its number of classes.

    Raises:
        UserError: Unknown conditioning, conditioning without classes, or classes without conditioning.
    """
    check_choice("conditioning", conditioning, choices)
    if (conditioning == "none") != (num_classes is None):
        raise UserError(
            f"{network}: conditioning {conditioning!r} and num_classes {num_classes} do not go together; conditioning "
            "other than 'none' needs num_classes, and 'none' leaves it out"
        )
    check_widths("num_classes", [] if num_classes is None else [num_classes])


def check_class_input(labels: Tensor | None, conditioning: str, batch_size: int) -> None:
    """Compare the labels given to `forward` with what the network was built for.

    Raises:
        UserError: Labels are missing, not one a sample, or given to an unconditional network.
    """
    if conditioning == "none" and labels is not None:
        raise UserError("the network was built without class conditioning, but got labels")
    if conditioning in CONDITIONED and labels is None:
        raise UserError(f"the network is conditioned on classes ({conditioning}): give ({batch_size},) labels")
    if labels is not None and tuple(labels.shape) != (batch_size,):
        raise UserError(f"labels must have shape ({batch_size},), one a sample, got {tuple(labels.shape)}")


def check_latents(latents: Tensor, latent_dim: int) -> None:
    """Compare a batch of latents with the dimension a network was built for.

    Raises:
        UserError: They are no vectors of that dimension.
    """
    if latents.ndim != 2 or latents.shape[1] != latent_dim:
        raise UserError(f"the network takes latents of shape (batch, {latent_dim}), got {tuple(latents.shape)}")


def append_classes(sample: Tensor, labels: Tensor | None, num_classes: int) -> Tensor:
    """One-hot classes as further channels, constant over an image (Mirza & Osindero 2014, arXiv 1411.1784).

    (batch, channels, ...) and (batch,) -> (batch, channels + num_classes, ...); the sample itself without labels.
    """
    if labels is None:
        return sample
    planes = F.one_hot(labels, num_classes).to(sample).reshape(*labels.shape, num_classes, *[1] * (sample.ndim - 2))
    return torch.cat([sample, planes.expand(-1, -1, *sample.shape[2:])], dim=1)


def pack(sample: Tensor, packing: int) -> Tensor:
    """Consecutive samples as one, channel after channel (PacGAN, Lin et al. 2018, arXiv 1712.04086).

    (batch, channels, ...) -> (batch / packing, packing * channels, ...).

    Raises:
        UserError: `packing` does not divide the batch.
    """
    if sample.shape[0] % packing:
        raise UserError(
            f"a batch of {sample.shape[0]} samples cannot be packed by {packing}; use a multiple of {packing}"
        )
    return sample.reshape(sample.shape[0] // packing, packing * sample.shape[1], *sample.shape[2:])


class DiscriminatorHead(nn.Module):
    """From a feature vector h to the logit of "real", and to logits of the class.

    "projection" adds the inner product of h with the class's embedding (Miyato & Koyama 2018, arXiv 1802.05637),
    "acgan" predicts the class beside the logit (Odena et al. 2017, arXiv 1610.09585). With `minibatch_kernels` the
    closeness to the rest of the batch is part of h, see `MinibatchDiscrimination`.
    """

    def __init__(
        self, in_features: int, conditioning: str, num_classes: int | None, minibatch_kernels: int = 0
    ) -> None:
        super().__init__()
        check_widths("minibatch_kernels", [minibatch_kernels] if minibatch_kernels else [])
        self.minibatch = MinibatchDiscrimination(in_features, minibatch_kernels) if minibatch_kernels else None
        in_features += minibatch_kernels
        self.linear = nn.Linear(in_features, 1)
        self.embedding = nn.Embedding(num_classes or 0, in_features) if conditioning == "projection" else None
        self.classifier = nn.Linear(in_features, num_classes or 0) if conditioning == "acgan" else None

    def forward(self, features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(batch, in_features) -> logits (batch,) and class logits (batch, num_classes) or None."""
        if self.minibatch is not None:
            features = self.minibatch(features)
        logits = self.linear(features).squeeze(1)
        if self.embedding is not None:
            logits = logits + (self.embedding(labels) * features).sum(1)
        return logits, None if self.classifier is None else self.classifier(features)


# normalisation -------------------------------------------------------------------------------------------------------


class BatchNorm(nn.Module):
    """Batch normalisation of images; with classes, each class has its own gain and shift (Dumoulin et al. 2017).

    The layer that normalises is a child, so that PyTorch's conversion to statistics over all GPUs finds it.

    Args:
        channels: Of the images.
        eps: Added to the variance.
        num_classes: Number of classes; None for one gain and shift.
        statistics: In eval mode, use "running" averages, those of the "batch", or each "image"'s own; all keep running
            averages.
    """

    def __init__(
        self, channels: int, eps: float = 1e-5, num_classes: int | None = None, statistics: str = "running"
    ) -> None:
        super().__init__()
        check_choice("norm_statistics", statistics, (*get_args(NormStatistics), "image"))
        self.normalise = nn.BatchNorm2d(channels, eps=eps, affine=num_classes is None)
        self.gain = None if num_classes is None else nn.Parameter(torch.ones(num_classes, channels))
        self.shift = None if num_classes is None else nn.Parameter(torch.zeros(num_classes, channels))
        self.statistics = statistics

    def forward(self, hidden: Tensor, labels: Tensor | None = None) -> Tensor:
        """(batch, channels, height, width), and labels (batch,) of a conditional layer -> the same shape."""
        if self.statistics == "batch" and not self.training:
            layer = self.normalise
            hidden = F.batch_norm(hidden, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)
        elif self.statistics == "image" and not self.training:
            layer = self.normalise
            hidden = instance_norm(hidden, layer.weight, layer.bias, layer.eps)
        else:
            hidden = self.normalise(hidden)
        if self.gain is None or self.shift is None:
            return hidden
        assert labels is not None  # `check_class_input`, called by the network
        gain, shift = F.embedding(labels, self.gain), F.embedding(labels, self.shift)
        return hidden * gain[:, :, None, None] + shift[:, :, None, None]


def hidden_norm(norm: str, channels: int, eps: float, statistics: str = "running") -> nn.Module | None:
    """The layer between convolution and activation; None for "none" and "spectral".

    "layer" normalises all of an image's channels and pixels together, with a gain for each channel.
    """
    if norm == "batch":
        return BatchNorm(channels, eps, statistics=statistics)
    if norm == "instance":
        return InstanceNorm2d(channels, eps=eps, affine=True)
    if norm == "layer":
        return nn.GroupNorm(1, channels, eps=eps)
    return None


@contextmanager
def running_averages_kept(network: nn.Module) -> Iterator[None]:
    """Let batch norms see a batch of fakes without putting it into their running averages, which are the data's."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def spectral_normalise(network: nn.Module) -> None:
    """Divide every weight by its largest singular value (Miyato et al. 2018, arXiv 1802.05957), in place.

    The power iteration starts from the weights as they are: initialise them first.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            spectral_norm(module)


def power_iterates(network: nn.Module) -> list[Tensor]:
    """The singular vectors that each pass in training mode brings one power iteration further.

    Micro-batches of one update start from the same ones: then they see the weights that their whole batch would see.
    """
    layers = [module for module in network.modules() if isinstance(module, _SpectralNorm)]
    return [vector for layer in layers for vector in (layer._u, layer._v)]


# initialisation ------------------------------------------------------------------------------------------------------


def initialise_normal(network: nn.Module, std: float = 0.02) -> None:
    """Weights N(0, std), gains N(1, std), biases 0 (Radford et al. 2016, arXiv 1511.06434; gains: its public code)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, 0, std)
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm) and module.affine:
            nn.init.normal_(module.weight, 1, std)
        elif isinstance(module, BatchNorm) and module.gain is not None:
            nn.init.normal_(module.gain, 1, std)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def initialise_glorot(network: nn.Module) -> None:
    """Glorot uniform, gain sqrt 2 for kernels of 3x3 and 1 for the rest, biases 0 (the SNGAN authors' code)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            gain = 2**0.5 if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) else 1.0
            nn.init.xavier_uniform_(module.weight, gain)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


# blocks of DCGAN -----------------------------------------------------------------------------------------------------


def halvings_to(smallest: int, network: str, sample_size: SampleSize) -> int:
    """How often an image is halved until the shorter side of the map is `smallest`, 4 or 8.

    Raises:
        UserError: The shorter side is no power of two of at least 8, or the longer one cannot be halved as often.
    """
    short, long = sorted(height_width(sample_size))
    if short < 8 or short & (short - 1):
        raise UserError(
            f"{network}: sample_size {in_words(sample_size)} is no power of two of at least 8; use "
            f"{2 ** max(3, round(math.log2(short)))} (--resolution)"
        )
    times = (short // smallest).bit_length() - 1
    if long % 2**times:
        raise UserError(
            f"{network}: sample_size {in_words(sample_size)} must be halved {times} times, and {long} is no "
            f"multiple of {2**times}; use {max(1, round(long / 2**times)) * 2**times} (--resolution)"
        )
    return times


def most_halvings(sample_size: SampleSize) -> int:
    """How often both sides of an image can be halved with at least 3 pixels left: down to 4 from a power of two."""
    short, long = sorted(height_width(sample_size))
    times = 0
    while short >= 6 and short % 2 == long % 2 == 0:
        short, long, times = short // 2, long // 2, times + 1
    return times


def dcgan_plan(
    network: str, sample_size: SampleSize, width: int, kernel_size: int, strides: tuple[int, ...] | None
) -> list[tuple[int, int]]:
    """(channels, stride) of each convolution from the image down to the smallest map; channels double up to 8 x width.

    Raises:
        UserError: Without strides the size as of `halvings_to`; with them it cannot be halved, or they are not as
            many as `most_halvings`; no width.
    """
    check_widths("width", [width])
    times = halvings_to(4, network, sample_size) if strides is None else most_halvings(sample_size)
    if kernel_size not in (4, 5):
        raise UserError(f"{network}: kernel_size must be 4 or 5, got {kernel_size}")
    if not times:
        raise UserError(f"{network}: sample_size {in_words(sample_size)} cannot be halved; use multiples of 4")
    steps = tuple(strides) if strides is not None else (2,) * times
    allowed = (2,) if kernel_size == 4 else (1, 2)
    if any(step not in allowed for step in steps) or steps.count(2) != times:
        short = min(height_width(sample_size))
        raise UserError(
            f"{network}: strides {steps} with kernel_size {kernel_size} do not lead from {short} to "
            f"{short // 2**times} pixels; use {times} twos, and ones only with kernel_size 5"
        )
    return [(width * 2 ** min(index, 3), step) for index, step in enumerate(steps)]


def smallest_map(sample_size: SampleSize, plan: list[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) of the map to which a plan leads: 4x4, or longer on one side."""
    factor = math.prod(stride for _, stride in plan)
    height, width = height_width(sample_size)
    return height // factor, width // factor


class DCGANTrunk(nn.Sequential):
    """Blocks of convolution, norm (not in the first) and LeakyReLU(0.2), from an image to its `smallest_map`.

    (batch, in_channels, height, width) -> (batch, out_channels, rows, columns).
    """

    def __init__(
        self,
        in_channels: int,
        sample_size: SampleSize,
        plan: list[tuple[int, int]],
        kernel_size: int,
        norm: str,
        norm_eps: float,
        statistics: str = "running",
    ) -> None:
        blocks: list[nn.Module] = []
        channels = in_channels
        for index, (width, stride) in enumerate(plan):
            normalise = None if index == 0 else hidden_norm(norm, width, norm_eps, statistics)
            conv = nn.Conv2d(channels, width, kernel_size, stride, (kernel_size - 1) // 2, bias=normalise is None)
            blocks.append(nn.Sequential(conv, *([] if normalise is None else [normalise]), nn.LeakyReLU(0.2)))
            channels = width
        super().__init__(*blocks)
        self.out_channels = channels
        self.out_features = math.prod(smallest_map(sample_size, plan)) * channels


class UpBlock(nn.Module):
    """Transposed convolution without bias, batch norm, ReLU; twice the size for stride 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: BatchNorm) -> None:
        super().__init__()
        self.conv = up_convolution(in_channels, out_channels, kernel_size, stride, bias=False)
        self.norm = norm

    def forward(self, hidden: Tensor, labels: Tensor | None = None) -> Tensor:
        """(batch, in_channels, size, size) -> (batch, out_channels, stride * size, stride * size)."""
        return F.relu(self.norm(self.conv(hidden), labels))


def up_convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int, bias: bool) -> nn.Module:
    """A transposed convolution whose output is exactly `stride` times as large."""
    padding = (kernel_size - 1) // 2
    missing = stride + 2 * padding - kernel_size
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size, stride, padding, missing, bias=bias)
