"""Pipeline of the adversarial autoencoder."""

from __future__ import annotations

from torch import Tensor

from hf_genmodels.losses.latent_prior import check_prior, sample_prior
from hf_genmodels.roles import Encoder, Generator

from .base import Generators
from .encoding import EncodingPipeline, check_fit


class AAEPipeline(EncodingPipeline):
    """Samples, codes, reconstructions and anomaly scores of an adversarial autoencoder (Makhzani et al. 2015).

    Its encoder is deterministic.

    Args:
        encoder: x -> z.
        decoder: z -> x.
        prior: What the codes were made to follow: "gaussian" or "mixture", see `losses.latent_prior.sample_prior`.
        num_components: Of the mixture.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.

    Raises:
        UserError: The networks' latents or samples differ, or there is no such prior.
    """

    model_cpu_offload_seq = "encoder->decoder"

    def __init__(
        self,
        encoder: Encoder,
        decoder: Generator,
        prior: str = "gaussian",
        num_components: int = 10,
        value_scale: float = 255.0,
    ) -> None:
        super().__init__()
        self.register_modules(encoder=encoder, decoder=decoder)
        self.register_to_config(prior=prior, num_components=num_components, value_scale=value_scale)
        check_fit(self, encoder, decoder)
        check_prior(prior, self.latent_dim, num_components)

    @property
    def has_normal_prior(self) -> bool:
        return bool(self.config.prior == "gaussian")

    def prior_latents(self, batch_size: int, generator: Generators, latents: Tensor | None) -> Tensor:
        normal = super().prior_latents(batch_size, generator, latents)
        if latents is not None:
            return normal
        uniform = self.random_uniform(batch_size, generator)
        return sample_prior(self.config.prior, normal, uniform, self.config.num_components)
