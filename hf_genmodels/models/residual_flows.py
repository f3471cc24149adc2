"""Planar and radial flows (Rezende & Mohamed 2015, arXiv 1505.05770)."""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from ..blocks.flows import FlowLayer, FlowModel, FlowSequence, in_float32
from ..checks import check_widths
from ..errors import UserError
from ..sizes import SampleSize, in_words

NUM_BISECTIONS = 30
NUM_NEWTON_STEPS = 3
INVERSE_SOFTPLUS_OF_ONE = math.log(math.e - 1)


class PlanarLayer(FlowLayer):
    """f(x) = x + u tanh(w.x + b): stretches along u where the plane w.x + b = 0 is near (equations 10 to 12).

    It is invertible because w.u > -1: what the layer learns is a vector v, and u = v + (softplus(w.v) - 1 - w.v) w /
    |w|^2 (appendix A.1), hence w.u = softplus(w.v) - 1. v is such at first that u = 0, the identity.

    Args:
        dim: Of the vectors, (batch, dim).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim) / math.sqrt(dim))
        self.bias = nn.Parameter(torch.zeros(()))
        self.direction = nn.Parameter(
            INVERSE_SOFTPLUS_OF_ONE * self.weight.detach() / self.weight.detach().square().sum()
        )

    def stretch(self) -> tuple[Tensor, Tensor]:
        """U, (dim,), and 1 + w.u > 0 in float32; without autocast, in which w.v is rounded and w.u may be below -1."""
        weight, direction = self.weight.float(), self.direction.float()
        product = weight @ direction
        steepness = F.softplus(product)
        return direction + (steepness - 1 - product) * weight / weight.square().sum(), steepness

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        with in_float32(sample):
            shift, steepness = self.stretch()
            bent = torch.tanh(sample.float() @ self.weight.float() + self.bias.float())
            latents = sample + torch.outer(bent, shift)
            return latents.to(sample.dtype), log_slope(bent, steepness)

    def inverse(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The equation along w is solved for a = w.x + b, then x = z - u tanh(a). Differentiable once."""
        with in_float32(latents):
            sample, bent, steepness = self.undo(latents)
            return sample, -log_slope(bent, steepness)

    def generate(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        with in_float32(latents):
            return self.undo(latents)[0]

    def undo(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """X, tanh(a), and 1 + w.u."""
        shift, steepness = self.stretch()
        target = latents.double() @ self.weight.double() + self.bias.double()
        bent = torch.tanh(solve_planar(target, steepness.double() - 1)).float()
        return (latents - torch.outer(bent, shift)).to(latents.dtype), bent, steepness


def log_slope(bent: Tensor, steepness: Tensor) -> Tensor:
    """log(1 + w.u (1 - t^2)), t = tanh(w.x + b), as log(t^2 + (1 + w.u) (1 - t^2)): no term is negative."""
    return torch.log(bent.square() + steepness * (1 - bent.square()))


def solve_planar(target: Tensor, product: Tensor) -> Tensor:
    """The root a of a + product tanh(a) = target, which is increasing in a for product > -1.

    It lies within |product| of the target. Bisection comes close, Newton's method ends it; its last step alone is
    differentiated, which gives the root's exact derivative.

    Args:
        target: (batch,) float64.
        product: w.u, a float64 scalar above -1.
    """
    with torch.no_grad():
        low, high = target - product.abs(), target + product.abs()
        for _ in range(NUM_BISECTIONS):
            middle = (low + high) / 2
            above = middle + product * torch.tanh(middle) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        root = (low + high) / 2
        for _ in range(NUM_NEWTON_STEPS - 1):
            root = newton_step(root, target, product).clamp(low, high)
    return newton_step(root, target, product)


def newton_step(root: Tensor, target: Tensor, product: Tensor) -> Tensor:
    """One step of Newton's method towards root + product tanh(root) = target."""
    bent = torch.tanh(root)
    return root - (root + product * bent - target) / (1 + product * (1 - bent.square()))


class RadialLayer(FlowLayer):
    """f(x) = x + beta (x - c) / (alpha + |x - c|): pushes away from a centre c, or pulls to it (equation 14).

    It is invertible for alpha > 0 and beta > -alpha (appendix A.2): alpha = softplus(a) and alpha + beta = softplus(b)
    for two free numbers. They are equal at first, so that beta = 0, the identity.

    Args:
        dim: Of the vectors, (batch, dim).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.randn(dim))
        self.raw_alpha = nn.Parameter(torch.tensor(INVERSE_SOFTPLUS_OF_ONE))
        self.raw_total = nn.Parameter(torch.tensor(INVERSE_SOFTPLUS_OF_ONE))

    def lengths(self) -> tuple[Tensor, Tensor]:
        """Alpha and alpha + beta, float32 scalars."""
        return F.softplus(self.raw_alpha.float()), F.softplus(self.raw_total.float())

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        alpha, total = self.lengths()
        centre = self.centre.float()
        offset = sample.float() - centre
        radius = torch.linalg.vector_norm(offset, dim=1)
        factor = (radius + total) / (radius + alpha)
        return (centre + factor[:, None] * offset).to(sample.dtype), self.log_det(radius, alpha, total)

    def inverse(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        alpha, total = self.lengths()
        sample, radius = self.undo(latents, alpha, total)
        return sample, -self.log_det(radius, alpha, total)

    def generate(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        return self.undo(latents, *self.lengths())[0]

    def undo(self, latents: Tensor, alpha: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """X, and r = |x - c|, the positive root of r (r + alpha + beta) = R (r + alpha), where R = |z - c|."""
        centre = self.centre.float()
        offset = latents.float() - centre
        radius = solve_radial(torch.linalg.vector_norm(offset, dim=1).double(), alpha, total).float()
        factor = (radius + alpha) / (radius + total)
        return (centre + factor[:, None] * offset).to(latents.dtype), radius

    def log_det(self, radius: Tensor, alpha: Tensor, total: Tensor) -> Tensor:
        """All directions but one are stretched by R / r, that one by dR / dr, where R = |f(x) - c| (equation 14).

        Args:
            radius: r, (batch,).
            alpha: A scalar.
            total: alpha + beta, a scalar.
        """
        across = torch.log((radius + total) / (radius + alpha))
        along = torch.log((radius.square() + 2 * alpha * radius + alpha * total) / (radius + alpha).square())
        return (len(self.centre) - 1) * across + along


def solve_radial(radius: Tensor, alpha: Tensor, total: Tensor) -> Tensor:
    """The positive root of r^2 + (total - radius) r - alpha radius = 0, in the form that does not cancel.

    Args:
        radius: (batch,) float64.
        alpha: A positive scalar.
        total: A positive scalar.
    """
    linear = total - radius
    root = torch.sqrt(linear.square() + 4 * alpha * radius)
    return torch.where(linear > 0, 2 * alpha * radius / (linear.abs() + root), (root - linear) / 2)


class ResidualFlow(FlowModel):
    """`num_flows` layers x + g(x) of one kind, over vectors.

    The paper lets such a flow carry a variational posterior's z0 to zK, whose inverse nobody needs. Here it carries
    data to N(0, I), so that the likelihood of data is what costs nothing, and sampling solves for the inverse.
    """

    layer_class: type[PlanarLayer | RadialLayer]

    def build(self, in_channels: int, sample_size: SampleSize | None, num_flows: int) -> None:
        """Stack the layers.

        Raises:
            UserError: Images, or nothing to stack.
        """
        if sample_size is not None:
            raise UserError(
                f"{type(self).__name__} takes vectors, not images of {in_words(sample_size)} pixels: choose "
                "another flow"
            )
        check_widths("in_channels", [in_channels])
        check_widths("num_flows", [num_flows])
        self.layers = FlowSequence([self.layer_class(in_channels) for _ in range(num_flows)])

    def encode(self, sample: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents, log_det = self.layers(sample)
        return latents, log_det

    def decode(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.layers.inverse(latents)

    def decode_sample(self, latents: Tensor, labels: Tensor | None, context: Tensor | None = None) -> Tensor:
        return self.layers.generate(latents)


class PlanarFlow(ResidualFlow):
    """Planar layers, f(x) = x + u tanh(w.x + b), from data x to z ~ N(0, I). See `ResidualFlow`.

    The inverse of each layer is one scalar equation for each sample, solved to rounding.

    Args:
        in_channels: Dimension of the vectors.
        sample_size: None, as the data are vectors.
        num_levels: None, as the data are continuous.
        num_flows: Layers.

    Raises:
        UserError: Images, or fewer than one layer.
    """

    layer_class = PlanarLayer

    @register_to_config
    def __init__(
        self,
        in_channels: int = 2,
        sample_size: SampleSize | None = None,
        num_levels: int | None = None,
        num_flows: int = 16,
    ) -> None:
        super().__init__()
        self.build(in_channels, sample_size, num_flows)


class RadialFlow(ResidualFlow):
    """Radial layers, f(x) = x + beta (x - c) / (alpha + |x - c|), from data x to z ~ N(0, I). See `ResidualFlow`.

    The inverse of each layer is a quadratic equation.

    Args:
        in_channels: Dimension of the vectors.
        sample_size: None, as the data are vectors.
        num_levels: None, as the data are continuous.
        num_flows: Layers.

    Raises:
        UserError: Images, or fewer than one layer.
    """

    layer_class = RadialLayer

    @register_to_config
    def __init__(
        self,
        in_channels: int = 2,
        sample_size: SampleSize | None = None,
        num_levels: int | None = None,
        num_flows: int = 16,
    ) -> None:
        super().__init__()
        self.build(in_channels, sample_size, num_flows)
