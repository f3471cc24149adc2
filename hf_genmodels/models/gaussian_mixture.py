"""Mixture of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.outputs import UNSET
from ..checks import check_choice, check_widths
from ..choices import CovarianceType
from ..losses.likelihood import LOG_2PI
from ..sizes import SampleSize
from .gaussian import DensityModel


@dataclass
class GaussianMixtureOutput(BaseOutput):
    """What a mixture says of its samples.

    Args:
        responsibilities (`torch.Tensor` of shape `(batch, num_components)`): p(component | x), float32.
        log_likelihood (`torch.Tensor` of shape `(batch,)`): log-density of what the model takes, nats, float32.
    """

    responsibilities: Tensor
    log_likelihood: Tensor = UNSET


class GaussianMixtureModel(DensityModel):
    """p(x) = sum_c w_c N(x; mu_c, S_c).

    `log_weights` are log w_c up to a constant; `scales` are the lower Cholesky factors of S_c, or their diagonals.
    Until it is fitted the model has random means, unit covariances and equal weights.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        num_components: Gaussians in the mixture.
        covariance_type: "full" (each its own), "tied" (one for all) or "diag" (each its own, diagonal).
        num_levels: Grey levels by which images are dequantised; None for vectors.

    Raises:
        UserError: An unknown `covariance_type`, or `num_components` below 1.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        sample_size: SampleSize | None = None,
        num_components: int = 10,
        covariance_type: CovarianceType = "full",
        num_levels: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("covariance_type", covariance_type, get_args(CovarianceType))
        check_widths("num_components", [num_components])
        self.log_weights = nn.Parameter(torch.zeros(num_components))
        self.means = nn.Parameter(torch.randn(num_components, self.dim))
        if covariance_type == "diag":
            self.scales = nn.Parameter(torch.ones(num_components, self.dim))
        else:
            count = num_components if covariance_type == "full" else 1
            self.scales = nn.Parameter(torch.eye(self.dim).repeat(count, 1, 1))

    @torch.no_grad()
    def set_components(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        """Become the mixture with these components.

        Args:
            weights: (num_components,), positive.
            means: (num_components, dim).
            covariances: (num_components, dim, dim) for "full", (dim, dim) for "tied", (num_components, dim), the
                diagonals, for "diag"; float64.
        """
        is_diagonal = self.config.covariance_type == "diag"
        self.log_weights.copy_(weights.log())
        self.means.copy_(means)
        self.scales.copy_(covariances.sqrt() if is_diagonal else torch.linalg.cholesky(covariances))

    def forward(self, sample: Tensor, return_dict: bool = True) -> GaussianMixtureOutput | tuple[Tensor, ...]:
        """Responsibilities and log-density.

        Args:
            sample: x, (batch, dim), or (batch, channels, height, width) dequantised to [-1/2, 1/2).
            return_dict: Return a `GaussianMixtureOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the model was built for.
        """
        log_joint = self.log_weights.float().log_softmax(0) + self._log_densities(self.flatten(sample))
        output = GaussianMixtureOutput(log_joint.softmax(1), log_joint.logsumexp(1))
        return output if return_dict else output.to_tuple()

    def _log_densities(self, vectors: Tensor) -> Tensor:
        """Log N(x; mu_c, S_c): (batch, dim) -> (batch, num_components)."""
        means, scales = self.means.float(), self.scales.float()
        if self.config.covariance_type == "diag":
            squares = ((vectors[:, None] - means) / scales).square().sum(2)
            log_det = scales.log().sum(1)
        else:
            centred = (vectors - means[:, None]).transpose(1, 2)
            squares = torch.linalg.solve_triangular(scales, centred, upper=False).square().sum(1).T
            log_det = scales.diagonal(dim1=1, dim2=2).log().sum(1)
        return -0.5 * (squares + self.dim * LOG_2PI) - log_det

    def decode(self, latents: Tensor) -> Tensor:
        """Standard normal numbers -> draws from the mixture.

        Args:
            latents: (batch, 1 + dim). The normal distribution function of the first number chooses the component, the
                others are the draw from it.

        Returns:
            x as `forward` takes it.
        """
        ends = self.log_weights.float().softmax(0).cumsum(0)
        uniform = torch.special.ndtr(latents[:, 0].float())
        components = torch.searchsorted(ends, uniform.contiguous()).clamp(max=len(ends) - 1)
        noise, vectors = latents[:, 1:], self.means[components]
        if self.config.covariance_type == "diag":
            return self.unflatten(vectors + noise * self.scales[components])
        scales = self.scales.expand(len(ends), -1, -1)
        for component in components.unique():  # not one factor for each sample: it can be large
            rows = components == component
            vectors[rows] += noise[rows] @ scales[component].T
        return self.unflatten(vectors)
