"""The grid of images that the percentiles of two latent dimensions give, for every pipeline with an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hf_genmodels.errors import UserError

from .base import GenerativePipeline, GenerativePipelineOutput
from .latents import percentile_grid


class ManifoldPipeline(GenerativePipeline):
    """A pipeline with `encode`, `latent_dim` and `network_decode`."""

    @property
    def has_normal_prior(self) -> bool:
        """Whether the codes were made to follow N(0, I)."""
        return True

    @property
    def latent_dim(self) -> int:
        """Dimension of z."""
        raise NotImplementedError

    def encode(self, images: Any) -> Tensor:
        """Code of each image, (batch, latent_dim)."""
        raise NotImplementedError

    def network_decode(self, latents: Tensor) -> Tensor:
        """(batch, latent_dim) -> what the network shows for them, images in [-1, 1]."""
        raise NotImplementedError

    @torch.no_grad()
    def manifold(
        self,
        num_rows: int = 20,
        output_type: str | None = None,
        images: Any = None,
        dimensions: Sequence[int] | None = None,
    ) -> GenerativePipelineOutput:
        """Decode a grid of evenly spaced percentiles of two latent dimensions (Kingma & Welling 2013, fig. 4).

        Args:
            num_rows: Rows and columns of the grid.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            images: Whose codes have the percentiles, with the other dimensions at their medians: PIL images, arrays or
                tensors, see `images.to_network`. By default the percentiles are the prior's, and the others at 0.
            dimensions: The one that grows to the right and the one that grows upwards, counted from 0; of two
                dimensions these.

        Returns:
            num_rows^2 images, row by row from the top left.

        Raises:
            UserError: It is not said which two of more dimensions, there is only one, or there is no normal prior and
                no images are given.
        """
        chosen = self._chosen_dimensions(dimensions)
        if images is None and not self.has_normal_prior:
            raise UserError(f"the codes of this {type(self).__name__} have no normal prior: give images")
        codes = None if images is None else self.encode(images)
        grid = percentile_grid(num_rows, chosen, self.latent_dim, codes)
        sample = self.network_decode(grid.to(self._execution_device, self.dtype))
        return GenerativePipelineOutput(images=self.finish(sample, output_type, False)[0])

    def _chosen_dimensions(self, dimensions: Sequence[int] | None) -> tuple[int, int]:
        if dimensions is None:
            if self.latent_dim != 2:
                raise UserError(
                    f"manifold shows 2 dimensions of the latent, this model's has {self.latent_dim}"
                    + ("; say which, such as dimensions=(0, 1)" if self.latent_dim > 2 else "")
                )
            return 0, 1
        given = list(dimensions) if isinstance(dimensions, (list, tuple)) else []
        if len(given) != 2 or given[0] == given[1] or any(type(each) is not int for each in given):
            raise UserError(f"dimensions must be two different numbers, such as (0, 1), got {dimensions!r}")
        if min(given) < 0 or max(given) >= self.latent_dim:
            raise UserError(f"dimensions must lie in 0 to {self.latent_dim - 1}, got {dimensions!r}")
        return given[0], given[1]
