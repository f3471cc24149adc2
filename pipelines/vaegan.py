"""Pipeline of the VAE/GAN."""

from __future__ import annotations

from hf_genmodels.roles import Encoder, Generator

from .encoding import PosteriorPipeline, check_fit


class VAEGANPipeline(PosteriorPipeline):
    """Samples, codes, reconstructions and anomaly scores of a VAE/GAN (Larsen et al. 2016, arXiv 1512.09300).

    Args:
        encoder: x -> mu(x), with one log sigma for all images (`shared_log_std=True`).
        decoder: z -> x, which is the GAN's generator.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.

    Raises:
        UserError: The networks' latents or samples differ, or the encoder has no log sigma.
    """

    model_cpu_offload_seq = "encoder->decoder"

    def __init__(self, encoder: Encoder, decoder: Generator, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(encoder=encoder, decoder=decoder)
        self.register_to_config(value_scale=value_scale)
        check_fit(self, encoder, decoder, needs_log_std=True)
