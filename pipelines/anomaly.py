"""What pipelines share that say how strange an image is."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_genmodels.losses.reconstruction import mean_squared_error, squared_error_map

from .base import GenerativePipeline


class AnomalyPipeline(GenerativePipeline):
    """Scores of images, higher for stranger ones, and the threshold that normal ones stay below.

    Attributes:
        random_anomaly_scores: Whether `anomaly_score` takes a `generator`.
    """

    random_anomaly_scores: ClassVar[bool] = False

    def anomaly_score(self, images: Any) -> Tensor:
        """How strange each image is, (batch,)."""
        raise NotImplementedError

    @torch.no_grad()
    def anomaly_threshold(self, images: Any, quantile: float = 0.95) -> float:
        """The score that a share `quantile` of normal images does not exceed.

        `pipe.anomaly_score(others) > pipe.anomaly_threshold(images)` then calls about 1 - quantile of further normal
        images strange, if `images` were not what the model was trained on; of its training images the threshold comes
        out lower where it has learnt them by heart.

        Args:
            images: Normal ones: PIL images, arrays or tensors, see `images.to_network`.
            quantile: In [0, 1].

        Raises:
            UserError: The images do not fit, or `quantile` lies elsewhere.
        """
        return self.anomaly_score(images).float().quantile(quantile).item()


class ReconstructingPipeline(AnomalyPipeline):
    """Anomalies by the error of their reconstructions, for pipelines that reconstruct without chance."""

    def network_reconstruct(self, sample: Tensor) -> Tensor:
        """What the networks make of samples, (batch, channels, height, width) in [-1, 1] or (batch, dim)."""
        raise NotImplementedError

    @torch.no_grad()
    def anomaly_score(self, images: Any) -> Tensor:
        """Mean squared reconstruction error of each image, (batch,): higher is stranger.

        In units of the [0, 1] scale for images, of the data for vectors.
        """
        sample = self.prepare_images(images, self.dtype)
        return mean_squared_error(self.network_reconstruct(sample), sample)

    @torch.no_grad()
    def anomaly_map(self, images: Any) -> Tensor:
        """Squared reconstruction error at each place, whose mean is the `anomaly_score`.

        Returns:
            (batch, height, width), the mean over the channels; of vectors (batch, dim).
        """
        sample = self.prepare_images(images, self.dtype)
        return squared_error_map(self.network_reconstruct(sample), sample)
