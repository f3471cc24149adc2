"""The stationary texture's objective: the Fourier moduli of one training image."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..models.texture import StationaryTexture
from ..pipelines.texture import TexturePipeline
from .base import Batch
from .closed_form import ClosedFormObjective, Fit

NUM_TEXTURES_SHOWN = 4  # of each method: an exemplar is larger than other families' images


@dataclass
class TextureArguments:
    """Options of `train_texture.py`."""

    example_index: int = field(
        default=0, metadata={"help": "Which of the training images is the exemplar, from 0 on."}
    )


class TextureObjective(ClosedFormObjective):
    """The periodic component of one training image; see `StationaryTexture`.

    The figures are of the exemplar: its standard deviation, and the root mean square of what its periodic component
    leaves out, on the [0, 1] scale. There are no held-out ones.
    """

    Arguments = TextureArguments

    def __init__(self, texture: StationaryTexture, data: DataSpec, example_index: int = 0) -> None:
        self.networks = {"texture": texture}
        self.data = data
        self.example_index = example_index

    @classmethod
    def from_args(cls, args: TextureArguments, data: DataSpec) -> "TextureObjective":
        if data.size is None:
            raise UserError(f"a texture is fitted to an image, but {data.name} has vectors")
        if not 0 <= args.example_index < (data.num_examples or 0):
            raise UserError(
                f"--example_index {args.example_index} is none of the {data.num_examples} training images of "
                f"{data.name}, which are counted from 0"
            )
        return cls(StationaryTexture(data.channels, data.size), data, args.example_index)

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

    def pipeline(self, networks: dict[str, ModelMixin]) -> TexturePipeline:
        texture: Any = networks["texture"]
        return TexturePipeline(texture=texture, value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        options = {"batch_size": NUM_TEXTURES_SHOWN, "generator": generator, "output_type": "pt"}
        return {
            "exemplar, periodic component": pipeline.exemplar[None],
            "ADSN": pipeline(method="adsn", **options).images,
            "random phase": pipeline(method="random_phase", **options).images,
        }
