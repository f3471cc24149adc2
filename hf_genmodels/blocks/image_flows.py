"""Bijections of images, (batch, channels, height, width): what Glow is made of; squeezing serves RealNVP, too.

Sources: Kingma & Dhariwal 2018 (Glow, arXiv 1807.03039); Dinh et al. 2017 (squeeze, arXiv 1605.08803).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words
from .couplings import AffineCoupling
from .flows import ActNorm, FlowLayer, in_float32


def check_squeezable(sample_size: SampleSize, num_scales: int) -> None:
    """Refuse images that cannot be halved `num_scales` times.

    Raises:
        UserError: One line.
    """
    if any(side % 2**num_scales for side in height_width(sample_size)):
        raise UserError(
            f"images of size {in_words(sample_size)} do not divide by {2**num_scales}, which {num_scales} "
            "squeezes need: give another --resolution, or fewer --num_scales"
        )


class Squeeze(FlowLayer):
    """Each 2x2 square of pixels becomes four channels: (batch, c, h, w) -> (batch, 4c, h/2, w/2), h and w even.

    Channel 4k + 2i + j holds channel k at row i, column j of the squares; Dinh et al. 2017 (section 3.6) leave the
    order open.
    """

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(sample, 2), sample.new_zeros(sample.shape[0], dtype=torch.float32)

    def inverse(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(latents, 2), latents.new_zeros(latents.shape[0], dtype=torch.float32)

    def generate(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        return F.pixel_shuffle(latents, 2)


# What the inverse of an `InvertibleConv1x1` is made of.
OF_A_CONV = ("permutation", "lower", "upper", "sign", "log_diagonal")


class InvertibleConv1x1(FlowLayer):
    """A learned mixture of the channels at each pixel, z = W x, that starts as a random rotation.

    W = P L (U + diag(s)): P a fixed permutation, L lower triangular with ones on the diagonal, U strictly upper
    triangular, s of fixed signs. log|det W| is the sum of log|s|, times the number of pixels (Kingma & Dhariwal 2018,
    section 3.2, equations 9 to 11). There log|s| is the logarithm of learned values; here it is what is learned.

    Args:
        num_channels: Of the images.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("permutation", torch.zeros(num_channels, num_channels))
        self.register_buffer("sign", torch.zeros(num_channels))
        self.lower = nn.Parameter(torch.zeros(num_channels, num_channels))
        self.upper = nn.Parameter(torch.zeros(num_channels, num_channels))
        self.log_diagonal = nn.Parameter(torch.zeros(num_channels))
        self.set_weight(nn.init.orthogonal_(torch.empty(num_channels, num_channels, dtype=torch.float32)))

    @torch.no_grad()
    def set_weight(self, weight: Tensor) -> None:
        """Start from this W, (channels, channels).

        Raises:
            UserError: It is singular.
        """
        rank = int(torch.linalg.matrix_rank(weight))
        if rank < len(weight):
            raise UserError(f"the 1x1 matrix is singular (rank {rank} of {len(weight)}): it has no inverse")
        permutation, lower, upper = torch.linalg.lu(weight)
        diagonal = upper.diagonal()
        self.permutation.copy_(permutation)
        self.sign.copy_(diagonal.sign())
        self.lower.copy_(lower.tril(-1))
        self.upper.copy_(upper.triu(1))
        self.log_diagonal.copy_(diagonal.abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L without its ones, and U + diag(s), float32."""
        return triangular_factors(self.lower, self.upper, self.sign, self.log_diagonal)

    def weight(self) -> Tensor:
        """W, float32."""
        lower, upper = self.factors()
        return self.permutation.float() @ torch.addmm(upper, lower, upper)

    def inverse_weight(self) -> Tensor:
        """Inverse of W, float32."""
        return inverse_of_factors(self.permutation, *self.factors())

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        with in_float32(sample):
            return mix_channels(sample, self.weight()), self.log_det(sample)

    def inverse(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        with in_float32(latents):
            return mix_channels(latents, self.inverse_weight()), -self.log_det(latents)

    def generate(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        with in_float32(latents):
            return mix_channels(latents, self.inverse_weight())

    def log_det(self, sample: Tensor) -> Tensor:
        """log|det dz/dx| of a batch like `sample`, (batch,)."""
        return (self.log_diagonal.float().sum() * sample[0, 0].numel()).expand(sample.shape[0])


def triangular_factors(lower: Tensor, upper: Tensor, sign: Tensor, log_diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """L without its ones, and U + diag(s), float32, of one `InvertibleConv1x1` or of a batch of them."""
    diagonal = torch.diag_embed(sign.float() * torch.exp(log_diagonal.float()))
    return torch.tril(lower.float(), -1), torch.triu(upper.float(), 1) + diagonal


def inverse_of_factors(permutation: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Inverse of W = P L U, by substitution: ([batch,] channels, channels)."""
    unpermuted = torch.linalg.solve_triangular(lower, permutation.float().mT, upper=False, unitriangular=True)
    return torch.linalg.solve_triangular(upper, unpermuted, upper=True)


def mix_channels(sample: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b at each pixel, that is a 1x1 convolution; as a product of matrices it takes half of its time.

    Args:
        sample: x, (batch, channels, height, width).
        weight: W, (channels, channels).
        bias: b, (channels,).
    """
    pixels, weight = sample.flatten(2), weight.to(sample.dtype).expand(sample.shape[0], -1, -1)
    if bias is None:
        return torch.bmm(weight, pixels).view_as(sample)
    return torch.baddbmm(bias.to(sample.dtype)[:, None], weight, pixels).view_as(sample)


def zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that gives zeros until it has learned (Kingma & Dhariwal 2018, section 3.3).

    Without their extra learned scale of the output.
    """
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def coupling_network(in_channels: int, out_channels: int, hidden_channels: int) -> nn.Sequential:
    """The network of Glow's couplings: 3x3, 1x1 and 3x3 convolutions with ReLU between them.

    Kingma & Dhariwal 2018, section 5, have an ActNorm after each hidden convolution; here these have biases.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden_channels, hidden_channels, 1),
        nn.ReLU(inplace=True),
        zero_conv(hidden_channels, out_channels),
    )


class FlowStep(FlowLayer):
    """One step of Glow: ActNorm, 1x1 convolution, affine coupling (Kingma & Dhariwal 2018, figure 2a).

    The first two are affine maps of each pixel, and their product is applied as one. The coupling's scale is exp(s)
    with s bounded, one to begin with; Glow's is sigmoid(raw + 2), which can only shrink.

    Args:
        num_channels: Of the images; even.
        hidden_channels: Width of the coupling's network.
        scale_limit: Bound of the coupling's |s|.
        context_dim: Numbers in the context that the coupling sees; 0 for none.
    """

    takes_context = True

    def __init__(self, num_channels: int, hidden_channels: int, scale_limit: float, context_dim: int = 0) -> None:
        super().__init__()
        self.norm = ActNorm(num_channels)
        self.conv = InvertibleConv1x1(num_channels)
        network = partial(coupling_network, hidden_channels=hidden_channels)
        self.coupling = AffineCoupling(num_channels, False, network, scale_limit, context_dim)

    def forward(self, sample: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.norm.reduce is not None:  # the norm takes its statistics from what it is given
            mixed = self.conv(self.norm(sample)[0])[0]
        else:
            with in_float32(sample):
                weight = self.conv.weight() * torch.exp(self.norm.log_scale.float())
                mixed = mix_channels(sample, weight, weight @ self.norm.bias.float())
        kept, changing = mixed.chunk(2, dim=1)
        changed, log_det = self.coupling.change(kept, changing, context)
        return torch.cat([kept, changed], dim=1), log_det + self.linear_log_det(sample)

    def inverse(self, latents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, changed = latents.chunk(2, dim=1)
        restored, log_det = self.coupling.restore(kept, changed, context)
        mixed = torch.cat([kept, restored], dim=1)
        with in_float32(mixed):
            weight = self.conv.inverse_weight() * torch.exp(-self.norm.log_scale.float())[:, None]
            sample = mix_channels(mixed, weight, -self.norm.bias.float())
        return sample, log_det - self.linear_log_det(latents)

    def generate(self, latents: Tensor, context: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return generate_steps(latents, [self], context)

    def linear_log_det(self, sample: Tensor) -> Tensor:
        """log|det| of ActNorm and 1x1 convolution on images like `sample`, a scalar."""
        return (self.norm.log_scale.float() + self.conv.log_diagonal.float()).sum() * sample[0, 0].numel()


def generate_steps(latents: Tensor, steps: Sequence[FlowStep], context: Tensor | None = None) -> Tensor:
    """Undo steps of one width, the last one first, without log-determinants; their matrices are inverted as one batch.

    Args:
        latents: (batch, channels, height, width).
        steps: At least one.
        context: (batch, context_dim), or None.
    """
    sample = latents
    with in_float32(latents):
        convs = [step.conv for step in steps]
        stacked = (torch.stack([getattr(conv, name) for conv in convs]) for name in OF_A_CONV)
        permutation, *triangular = stacked
        scales = torch.exp(-torch.stack([step.norm.log_scale for step in steps]).float())
        weights = inverse_of_factors(permutation, *triangular_factors(*triangular)) * scales[:, :, None]
    for step, weight in zip(reversed(steps), weights.flip(0), strict=True):
        kept, changed = sample.chunk(2, dim=1)
        mixed = torch.cat([kept, step.coupling.generate_half(kept, changed, context)], dim=1)
        with in_float32(mixed):
            sample = mix_channels(mixed, weight, -step.norm.bias.float())
    return sample
