"""The stationary texture's objective: the Fourier moduli of one training image."""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..pipelines.texture import TexturePipeline
from .base import Batch
from .closed_form import ClosedFormObjective, Fit

NUM_TEXTURES_SHOWN = 4  # of each method: an exemplar is larger than other families' images


class TextureObjective(ClosedFormObjective):
    """The periodic component of one training image; see `StationaryTexture`.

    The figures are of the exemplar: its standard deviation, and the root mean square of what its periodic component
    leaves out, on the [0, 1] scale. There are no held-out ones.
    """

    pipeline_class = TexturePipeline
    ema = ("texture",)

    def fit(self, batches: Iterable[Batch], generator: torch.Generator) -> Fit:
        texture: Any = self.networks["texture"]
        image = next(
            batch["image"][batch["index"] == self.example_index][0]
            for batch in batches
            if self.example_index in batch["index"]
        )
        texture.set_exemplar(image)
        removed = (image - texture.exemplar) / 2
        return Fit(
            {
                "exemplar_std": [float((image / 2).std(correction=0))],
                "smooth_component_rms": [float(removed.detach().square().mean().sqrt())],
            }
        )

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(self, texture: ModelMixin, data: DataSpec, example_index: int = 0) -> None:
        """Put the parts together.

        Args:
            texture: A `StationaryTexture`.
            data: What the training data look like: images.
            example_index: Which of them is the exemplar, from 0 on.
        """
        super().__init__({"texture": texture}, data)
        self.example_index = example_index

    # pictures --------------------------------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        options = {"batch_size": NUM_TEXTURES_SHOWN, "generator": generator, "output_type": "pt"}
        return {
            "exemplar, periodic component": pipeline.exemplar[None],
            "ADSN": pipeline(method="adsn", **options).images,
            "random phase": pipeline(method="random_phase", **options).images,
        }
