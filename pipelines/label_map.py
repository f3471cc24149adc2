"""Pipeline of networks that say for each pixel of an image which class it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from hf_genmodels.data.label_maps import default_colors, flat_palette
from hf_genmodels.data.spec import LabelMaps
from hf_genmodels.errors import UserError
from hf_genmodels.roles import Translator

from .fusion import check_parts
from .images import SampleShape
from .labels import find_names
from .translation import TranslationPipeline, check_head

# Indices that a palette picture can hold.
PALETTE_SIZE = 256


@dataclass
class LabelMapPipelineOutput(BaseOutput):
    """The class of each pixel.

    Args:
        images: List of PIL images in palette mode, whose indices are the classes and whose palette has their colours;
            or array or tensor (batch, height, width) of int64.
        probabilities: Of the classes, float32: array (batch, height, width, classes), or tensor (batch, classes,
            height, width) for `output_type="pt"`; None where they were not asked for.
    """

    images: Any
    probabilities: Any = None


class LabelMapPipeline(TranslationPipeline):
    """Says what each pixel of an image shows.

    Args:
        generator: x -> logits, one channel for each class.
        id2label: Names of the classes by number; by default these numbers.
        label_colors: Red, green and blue of each class, 0 to 255; by default those of PASCAL VOC.
        ignore_index: The number of pixels of no class in the data that it learnt from; it never says it itself.
        source_value_scale: What 1 stands for in the images that it takes.
        source_parts: (name, channels, value scale) of the images that are stacked as its input; None where it takes
            one image.

    Raises:
        UserError: The names or the colours are not as many as the channels of `generator`, or these are no logits.
    """

    measures = frozenset({"label_maps"})
    data_layout = "pair"
    sampling_options = frozenset({"tile_size", "tile_overlap"})
    model_cpu_offload_seq = "generator"
    generator: Translator

    def __init__(
        self,
        generator: Translator,
        id2label: dict[int, str] | None = None,
        label_colors: list[list[int]] | None = None,
        ignore_index: int = 255,
        source_value_scale: float = 255.0,
        source_parts: list[list[Any]] | None = None,
    ) -> None:
        super().__init__()
        check_head("generator", generator, makes_labels=True)
        num_classes = generator.config.out_channels
        numbers = {number: str(number) for number in range(num_classes)}
        names = numbers if id2label is None else find_names(id2label, num_classes)
        colors = [list(map(int, color)) for color in label_colors or default_colors(num_classes)]
        are_colors = all(len(color) == 3 and 0 <= min(color) <= max(color) < 256 for color in colors)
        if len(colors) != num_classes or not are_colors:
            raise UserError(f"label_colors must be red, green and blue, 0 to 255, of {num_classes} classes")
        self.register_modules(generator=generator)
        self.register_to_config(
            id2label=names,
            label_colors=colors,
            ignore_index=ignore_index,
            source_value_scale=source_value_scale,
            source_parts=check_parts(source_parts, generator),
        )

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of a label map of an image of the size it was trained on, with one channel."""
        return (1, *super().sample_shape[1:])

    @property
    def label_maps(self) -> LabelMaps:
        """What the numbers of classes stand for."""
        names = self.config.id2label
        colors = tuple((red, green, blue) for red, green, blue in self.config.label_colors)
        return LabelMaps(tuple(names[number] for number in sorted(names)), self.config.ignore_index, colors)

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        return_probabilities: bool = False,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> LabelMapPipelineOutput | tuple[Any, ...]:
        """Label maps, one of each image: of each pixel the class that is most probable.

        Args:
            image: One or a list of PIL images, arrays (height, width[, channels]) or tensors (channels, height, width)
                in [0, 1], all of one size; without tiles the sides must be multiples of what the network halves. Of
                a network of several images a dict of them by name, or a list of dicts, one for each label map.
            return_probabilities: Whether to give the probabilities of the classes as well.
            tile_size: Look at tiles of this side one by one, for images that are too large for the memory, or whose
                sides are no such multiples. Images smaller than a tile are extended to one and cut again.
            tile_overlap: Pixels by which tiles overlap; there their probabilities are blended. By default a quarter of
                a tile, at most 32.
            output_type: "pil" (the default), "np" or "pt".
            return_dict: Return a `LabelMapPipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once.

        Raises:
            UserError: The image's mode, channels or size do not fit, or another output type.
        """
        output_type = output_type or "pil"
        if output_type not in ("pil", "np", "pt"):
            raise UserError(f"output_type must be 'pil', 'np' or 'pt', got {output_type!r}")
        if output_type == "pil" and self.generator.config.out_channels > PALETTE_SIZE:
            raise UserError(f"a palette has {PALETTE_SIZE} colours, and there are more classes: give output_type='np'")

        def finish(probabilities: Tensor) -> LabelMapPipelineOutput:
            return self._show(probabilities, return_probabilities, output_type)

        output = self.translate(
            self.generator,
            image,
            value_scale=self.config.source_value_scale,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            finish=finish,
            max_batch_size=max_batch_size,
            activate=lambda logits: logits.float().softmax(1),
        )
        return output if return_dict else output.to_tuple()

    def _show(self, probabilities: Tensor, with_probabilities: bool, output_type: str) -> LabelMapPipelineOutput:
        """What a call returns of probabilities, (batch, classes, height, width)."""
        if not probabilities.isfinite().all():
            raise UserError("the probabilities hold NaN or infinite numbers; so do the network's weights")
        labels: Any = probabilities.argmax(1)
        shown: Any = probabilities if output_type == "pt" else probabilities.movedim(1, 3).cpu().numpy()
        if output_type != "pt":
            labels = labels.cpu().numpy()
        if output_type == "pil":
            labels = [palette_picture(each, self.config.label_colors) for each in labels]
        return LabelMapPipelineOutput(labels, shown if with_probabilities else None)


def palette_picture(labels: np.ndarray, colors: Sequence[Sequence[int]]) -> Image.Image:
    """A label map as a palette picture, which PNG files keep exactly.

    Args:
        labels: (height, width), whole numbers below 256.
        colors: Red, green and blue of each class; what is of no class is white.
    """
    picture = Image.fromarray(labels.astype(np.uint8)).convert("L")
    picture.putpalette(flat_palette([*colors, *[(255, 255, 255)] * (PALETTE_SIZE - len(colors))]))
    return picture
