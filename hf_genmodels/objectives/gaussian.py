"""The Gaussian's objective: maximum likelihood, that is principal component analysis."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..losses.reconstruction import clamped_squared_error
from ..models.gaussian import GaussianModel
from ..pipelines.gaussian import GaussianPipeline
from .base import Batch, reconstruction_pairs
from .closed_form import DensityArguments, DensityObjective, Fit, check_covariance_size


@dataclass
class GaussianArguments(DensityArguments):
    """Options of `train_gaussian.py`."""

    num_components: int | None = field(
        default=None,
        metadata={"help": "Principal directions; the others share one variance. All of them by default."},
    )


class GaussianObjective(DensityObjective):
    """Mean and covariance of the data, the latter by its eigenvectors; see `GaussianModel`.

    The moments are those of dequantised images. Their noise, uniform and independent of the image, is not drawn: it
    moves each pixel to the middle of its level on average, and adds 1 / (12 num_levels^2) to its variance. So the
    figures of the training data are exact means over the noise.
    """

    Arguments = GaussianArguments

    def __init__(self, gaussian: GaussianModel, data: DataSpec) -> None:
        self.networks = {"gaussian": gaussian}
        self.data = data

    @classmethod
    def from_args(cls, args: GaussianArguments, data: DataSpec) -> "GaussianObjective":
        check_covariance_size(data, "choose a smaller --resolution")
        return cls(GaussianModel(num_components=args.num_components, **args.network_options(data)), data)

    def fit(self, batches: Iterable[Batch], generator: torch.Generator) -> Fit:
        gaussian, dim = self.density, self.density.dim
        count = 0
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
        return Fit(self.figures([-gaussian.set_moments(origin + shift, covariance)]))

    def pipeline(self, networks: dict[str, ModelMixin]) -> GaussianPipeline:
        gaussian: Any = networks["gaussian"]
        return GaussianPipeline(gaussian=gaussian, value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        samples = pipeline(batch_size=len(batch["image"]), generator=generator, output_type="pt").images
        if not self.data.is_image:
            return {"data": batch["image"], "samples": samples}
        return {"samples": samples, "reconstructions": reconstruction_pairs(pipeline, batch["image"])}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        gaussian: Any = networks["gaussian"]
        image = batch["image"]
        latents = gaussian(gaussian.continuous(image, torch.full_like(image, 0.5))).latents
        reconstruction = gaussian.shown(gaussian.decode(latents))
        return {
            **super().evaluate(networks, batch, generator),
            "mse": clamped_squared_error(reconstruction, image),
        }
