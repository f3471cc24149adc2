"""The Gaussian's objective: maximum likelihood, that is principal component analysis."""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.reconstruction import clamped_squared_error
from ..pipelines.gaussian import GaussianPipeline
from .base import Batch
from .closed_form import ClosedFormObjective, Fit, fitted_likelihoods, held_out_likelihoods


class GaussianObjective(ClosedFormObjective):
    """Mean and covariance of the data, the latter by its eigenvectors; see `GaussianModel`.

    The moments are those of dequantised images. Their noise, uniform and independent of the image, is not drawn: it
    moves each pixel to the middle of its level on average, and adds 1 / (12 num_levels^2) to its variance. So the
    figures of the training data are exact means over the noise.
    """

    pipeline_class = GaussianPipeline
    ema = ("gaussian",)
    shows_reconstructions = True

    def fit(self, batches: Iterable[Batch], generator: torch.Generator) -> Fit:
        gaussian: Any = self.networks["gaussian"]
        count, dim = 0, gaussian.dim
        total, products = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
        origin: Tensor | None = None
        for batch in batches:
            image = batch["image"]
            vectors = gaussian.continuous(image, torch.full_like(image, 0.5)).flatten(1).double()
            origin = vectors.mean(0) if origin is None else origin  # near the mean, so that few digits cancel below
            count += len(vectors)
            total += (vectors - origin).sum(0)
            products += (vectors - origin).T @ (vectors - origin)
        assert origin is not None  # data without examples are refused when loaded
        shift = total / count
        covariance = products / count - torch.outer(shift, shift)
        if (num_levels := gaussian.config.num_levels) is not None:
            covariance += torch.eye(dim, dtype=torch.float64) / (12 * num_levels**2)
        return Fit(fitted_likelihoods(gaussian, [-gaussian.set_moments(origin + shift, covariance)]))

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(self, gaussian: ModelMixin, data: DataSpec) -> None:
        """Put the parts together.

        Args:
            gaussian: A `GaussianModel`.
            data: What the training data look like.
        """
        super().__init__({"gaussian": gaussian}, data)

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        gaussian, image = networks["gaussian"], batch["image"]
        latents = gaussian(gaussian.continuous(image, torch.full_like(image, 0.5))).latents
        reconstruction = gaussian.shown(gaussian.decode(latents))
        return {
            **held_out_likelihoods(gaussian, image, generator),
            "mse": clamped_squared_error(reconstruction, image),
        }
