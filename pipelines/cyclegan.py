"""Pipeline of CycleGAN."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.roles import Translator

from .base import Direction, GenerativePipelineOutput
from .images import from_network
from .translation import TranslationPipeline, check_head


class CycleGANPipeline(TranslationPipeline):
    """Translates images of domain A to domain B, and back.

    Args:
        generator_ab: From A to B (the paper's G).
        generator_ba: From B to A (the paper's F); None where only the other was published.
        value_scale: What 1 stands for in the data of domain B: 255 for 8-bit images, 65535 for 16-bit ones.
        source_value_scale: The same of domain A.
    """

    data_layout = "domains"
    sampling_options = frozenset({"direction", "tile_size", "tile_overlap"})
    default_direction = "a_to_b"
    model_cpu_offload_seq = "generator_ab->generator_ba"
    _optional_components: ClassVar[list[str]] = ["generator_ba"]
    generator_ab: Translator
    generator_ba: Translator | None

    def __init__(
        self,
        generator_ab: Translator,
        generator_ba: Translator | None = None,
        value_scale: float = 255.0,
        source_value_scale: float = 255.0,
    ) -> None:
        super().__init__()
        check_head("generator_ab", generator_ab)
        check_head("generator_ba", generator_ba)
        self.register_modules(generator_ab=generator_ab, generator_ba=generator_ba)
        self.register_to_config(value_scale=value_scale, source_value_scale=source_value_scale)

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        direction: Direction = default_direction,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Translations, one of each image.

        Args:
            image: One or a list of PIL images, arrays (height, width[, channels]) or tensors (channels, height, width)
                in [0, 1], all of one size; without tiles the sides must be multiples of what the network halves.
            direction: "a_to_b" or "b_to_a".
            tile_size: Translate tiles of this side one by one, for images that are too large for the memory, or whose
                sides are no such multiples. Images smaller than a tile are extended to one and cut again.
            tile_overlap: Pixels by which tiles overlap; there they are blended. By default a quarter of a tile, at
                most 32.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Raises:
            UserError: The image's mode, channels or size do not fit, or there is no translator of this direction.
        """
        if direction not in get_args(Direction):
            raise UserError(f"direction must be {' or '.join(get_args(Direction))}, got {direction!r}")
        network = self.generator_ab if direction == "a_to_b" else self.generator_ba
        if network is None:
            raise UserError("this model has no generator_ba; only direction='a_to_b' can be translated")
        scales = [self.config.source_value_scale, self.config.value_scale]
        taken, made = scales if direction == "a_to_b" else scales[::-1]

        def finish(sample: Tensor) -> Any:
            images = from_network(sample, output_type, made)
            return GenerativePipelineOutput(images=images) if return_dict else (images,)

        return self.translate(
            network,
            image,
            value_scale=taken,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            finish=finish,
            max_batch_size=max_batch_size,
        )
