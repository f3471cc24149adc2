"""Models with a density in closed form: their base, and the Gaussian (PCA) model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.autoencoding import check_sample
from ..blocks.flows import in_float32
from ..blocks.outputs import UNSET
from ..errors import UserError
from ..losses.dequantization import dequantize, discrete_log_likelihood
from ..losses.likelihood import LOG_2PI, standard_normal_log_density
from ..sizes import SampleSize, sample_shape


class DensityModel(ModelMixin, ConfigMixin):
    """Base of the models whose density over flat vectors can be written down.

    `forward` takes vectors as they are and images dequantised to [-1/2, 1/2), as flows do, so that likelihoods can be
    compared; its output has `log_likelihood`. Configurations have `in_channels`, `sample_size` (None for vectors) and
    `num_levels` (grey levels of images; None for vectors).
    """

    @property
    def dim(self) -> int:
        """Numbers in one sample."""
        return math.prod(sample_shape(self.config.in_channels, self.config.sample_size))

    def flatten(self, sample: Tensor) -> Tensor:
        """What `forward` takes -> (batch, dim) float32.

        Raises:
            UserError: The sample has another shape than the model was built for.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        return sample.flatten(1).float()

    def unflatten(self, vectors: Tensor) -> Tensor:
        """(batch, dim) -> what `forward` takes."""
        return vectors.unflatten(1, sample_shape(self.config.in_channels, self.config.sample_size))

    def continuous(self, image: Tensor, noise: Tensor) -> Tensor:
        """What `forward` takes, of the data.

        Args:
            image: (batch, channels, height, width) in [-1, 1], or (batch, dim), which is returned.
            noise: Same shape, uniform in [0, 1); 1/2 gives the middle of each grey level.
        """
        return image if self.config.num_levels is None else dequantize(image, noise, self.config.num_levels)

    def shown(self, sample: Tensor) -> Tensor:
        """The image that a sample of the density stands for: the inverse of `continuous` at the levels' middles.

        Values between the middles of two levels give greys between them; nothing is rounded or clipped.
        """
        levels = self.config.num_levels
        return sample if levels is None else ((sample + 0.5) * levels - 0.5) / (levels - 1) * 2 - 1

    def log_probability(self, image: Tensor, noise: Tensor) -> Tensor:
        """Of vectors the log-density, of images a bound of the log-probability of their grey levels, nats, (batch,).

        In the mean over the noise it is the bound of uniform dequantisation, see `losses.dequantization`.

        Args:
            image: As for `continuous`.
            noise: As for `continuous`.
        """
        density: Tensor = self(self.continuous(image, noise)).log_likelihood
        levels = self.config.num_levels
        return density if levels is None else discrete_log_likelihood(density, self.dim, levels)


@dataclass
class GaussianOutput(BaseOutput):
    """What a Gaussian says of its samples.

    Args:
        latents (`torch.Tensor` of shape `(batch, num_components)`): z, the coordinates along the principal directions
            in units of their standard deviations, float32.
        log_likelihood (`torch.Tensor` of shape `(batch,)`): log-density of what the model takes, nats, float32.
    """

    latents: Tensor
    log_likelihood: Tensor = UNSET


class GaussianModel(DensityModel):
    """x = mu + E Lambda^(1/2) z + noise: a Gaussian by its principal directions (PCA).

    The rows of `directions` (E transposed) are the eigenvectors of the covariance with the largest eigenvalues, which
    are `variances` (Lambda). With fewer components than dimensions the noise has the mean of the discarded eigenvalues
    as its variance in each of the discarded directions: the density of probabilistic PCA's maximum likelihood (Tipping
    & Bishop 1999, "Probabilistic principal component analysis", J. R. Stat. Soc. B 61, eqs. 7 and 8). Their noise also
    lies along the principal directions, where they subtract it from Lambda. The density of x is the same, but here z
    is exactly known from x, and decoding it gives PCA's reconstruction, which theirs is a shrunken version of.

    Until it is fitted the model is a standard normal.

    Args:
        in_channels: Channels of an image, or the dimension of a vector.
        sample_size: Height and width of an image, one number for a square; None for vectors.
        num_components: Principal directions; None for all of them, a Gaussian with any covariance.
        num_levels: Grey levels by which images are dequantised; None for vectors.

    Raises:
        UserError: `num_components` is below 1 or above the dimension.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        sample_size: SampleSize | None = None,
        num_components: int | None = None,
        num_levels: int | None = None,
    ) -> None:
        super().__init__()
        kept = self.dim if num_components is None else num_components
        if not 1 <= kept <= self.dim:
            raise UserError(
                f"num_components must be 1 to {self.dim}, the numbers in a sample, got {num_components} "
                "(--num_components)"
            )
        self.mean = nn.Parameter(torch.zeros(self.dim))
        self.directions = nn.Parameter(torch.eye(kept, self.dim))
        self.variances = nn.Parameter(torch.ones(kept))
        self.noise_variance = nn.Parameter(torch.ones(())) if kept < self.dim else None

    @torch.no_grad()
    def set_moments(self, mean: Tensor, covariance: Tensor) -> float:
        """Become the most likely model of data with these moments.

        Args:
            mean: (dim,).
            covariance: (dim, dim), float64.

        Returns:
            The mean of -log p(x) over such data, nats.

        Raises:
            UserError: The covariance does not have full rank, or, with fewer components than dimensions, no more than
                they span.
        """
        variances, vectors = torch.linalg.eigh(covariance)
        variances, directions = variances.flip(0), vectors.flip(1).T
        kept, dim = len(self.variances), self.dim
        smallest = variances[kept:].mean() if kept < dim else variances[-1]
        rounding = variances[0] * dim * torch.finfo(variances.dtype).eps
        if not smallest > rounding:
            rank = int((variances > rounding).sum())
            raise UserError(
                f"the training data fill only {rank} of their {dim} dimensions, which gives no finite density; "
                f"take more examples, or --num_components below {rank}"
            )
        self.mean.copy_(mean)
        self.directions.copy_(directions[:kept])
        self.variances.copy_(variances[:kept])
        if self.noise_variance is not None:
            self.noise_variance.copy_(smallest)
        log_det = variances[:kept].log().sum() + (dim - kept) * smallest.log()
        return float(0.5 * (log_det + dim * (LOG_2PI + 1)))

    def forward(self, sample: Tensor, return_dict: bool = True) -> GaussianOutput | tuple[Tensor, ...]:
        """Latents and log-density.

        Args:
            sample: x, (batch, dim), or (batch, channels, height, width) dequantised to [-1/2, 1/2).
            return_dict: Return a `GaussianOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the model was built for.
        """
        with in_float32(sample):
            centred = self.flatten(sample) - self.mean.float()
            directions, variances = self.directions.float(), self.variances.float()
            projected = centred @ directions.T
            latents = projected / variances.sqrt()
            log_likelihood = standard_normal_log_density(latents) - 0.5 * variances.log().sum()
            if self.noise_variance is not None:
                noise, rest = self.noise_variance.float(), centred - projected @ directions
                discarded = self.dim - len(variances)
                log_likelihood = log_likelihood - 0.5 * (
                    rest.square().sum(1) / noise + discarded * torch.log(2 * math.pi * noise)
                )
        output = GaussianOutput(latents, log_likelihood)
        return output if return_dict else output.to_tuple()

    def decode(self, latents: Tensor) -> Tensor:
        """X = mu + E Lambda^(1/2) z without noise, as `forward` takes it, of (batch, num_components)."""
        with in_float32(latents):
            return self.unflatten(self.mean + (latents * self.variances.sqrt()) @ self.directions)
