"""Pipeline of Pix2Pix."""

from __future__ import annotations

from typing import Any

import torch

from hf_genmodels.roles import Translator

from .base import GenerativePipelineOutput, Generators
from .fusion import check_parts
from .translation import TranslationPipeline, check_head


class Pix2PixPipeline(TranslationPipeline):
    """Translates images.

    Args:
        generator: G, x -> y.
        value_scale: What 1 stands for in the data that it makes: 255 for 8-bit images, 65535 for 16-bit ones.
        source_value_scale: The same of the images that it takes.
        source_parts: (name, channels, value scale) of the images that are stacked as its input; None where it takes
            one image.
    """

    data_layout = "pair"
    sampling_options = frozenset({"stochastic", "tile_size", "tile_overlap"})
    model_cpu_offload_seq = "generator"
    generator: Translator

    def __init__(
        self,
        generator: Translator,
        value_scale: float = 255.0,
        source_value_scale: float = 255.0,
        source_parts: list[list[Any]] | None = None,
    ) -> None:
        super().__init__()
        check_head("generator", generator)
        self.register_modules(generator=generator)
        self.register_to_config(
            value_scale=value_scale,
            source_value_scale=source_value_scale,
            source_parts=check_parts(source_parts, generator),
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        stochastic: bool = False,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        generator: Generators = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Translations, one of each image.

        Args:
            image: One or a list of PIL images, arrays (height, width[, channels]) or tensors (channels, height, width)
                in [0, 1], all of one size; without tiles the sides must be multiples of what the network halves. Of
                a network of several images a dict of them by name, or a list of dicts, one for each translation.
            stochastic: Keep dropout, the paper's only noise (Isola et al. 2017, section 2.1), so that each call gives
                another translation.
            tile_size: Translate tiles of this side one by one, for images that are too large for the memory, or whose
                sides are no such multiples. Images smaller than a tile are extended to one and cut again.
            tile_overlap: Pixels by which tiles overlap; there they are blended. By default a quarter of a tile, at
                most 32.
            generator: For dropout, with `stochastic`: one for all, or a sequence with one for each image.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once. The translations are the same to rounding;
                with `stochastic` they are where each image has a generator of its own.

        Raises:
            UserError: The image's mode, channels or size do not fit, or the network has no dropout.
        """
        return self.translate(
            self.generator,
            image,
            value_scale=self.config.source_value_scale,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            finish=lambda sample: self.finish(sample, output_type, return_dict),
            stochastic=stochastic,
            generator=generator,
            max_batch_size=max_batch_size,
        )
