"""Pipeline of the bidirectional GAN."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hf_genmodels.roles import Encoder, Generator

from .encoding import EncodingPipeline, check_fit


class BiGANPipeline(EncodingPipeline):
    """Samples, codes, reconstructions and anomaly scores of a BiGAN (Donahue et al. 2017, arXiv 1605.09782).

    Its encoder is deterministic; the prior is N(0, I).

    Args:
        encoder: E, x -> z.
        generator: G, z -> x.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.

    Raises:
        UserError: The networks' latents or samples differ.
    """

    model_cpu_offload_seq = "encoder->generator"
    generator: Any

    def __init__(self, encoder: Encoder, generator: Generator, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(encoder=encoder, generator=generator)
        self.register_to_config(value_scale=value_scale)
        check_fit(self, encoder, generator)

    def network_decode(self, latents: Tensor) -> Tensor:
        sample: Tensor = self.generator(latents.to(self.generator.dtype)).sample
        return sample
