"""Pipeline of the adversarial variational autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.roles import Encoder, Generator

from .base import GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .encoding import PosteriorPipeline, check_fit

NETWORKS = ("generator", "decoder")


class AVAEPipeline(PosteriorPipeline):
    """Samples, codes, reconstructions and anomalies of an AVAE (Plumerault et al. 2020, arXiv 2012.11551; thesis).

    The code z says what an image is like as far as the VAE knows, xi holds the detail that it does not: the generator
    makes sharp images of both, the decoder the VAE's blurry mean of z alone. Every method that makes images takes
    `network="generator"` (default) or `"decoder"`; xi goes with the generator only. Anomalies are scored, and the
    manifold is shown, by the decoder, which leaves nothing to chance.

    Args:
        encoder: x -> mu(x), with one log sigma for all images (`shared_log_std=True`).
        decoder: z -> x.
        generator: [z, xi] -> x. Its latents may have the decoder's dimension: then there is no xi.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.

    Raises:
        UserError: The networks' latents or samples differ, or the encoder has no log sigma.
    """

    sampling_options = frozenset({"network"})
    random_reconstructions = True
    model_cpu_offload_seq = "encoder->decoder->generator"
    generator: Any

    def __init__(
        self,
        encoder: Encoder,
        decoder: Generator,
        generator: Generator,
        value_scale: float = 255.0,
    ) -> None:
        super().__init__()
        self.register_modules(encoder=encoder, decoder=decoder, generator=generator)
        self.register_to_config(value_scale=value_scale)
        check_fit(self, encoder, decoder, needs_log_std=True)
        check_fit(self, encoder, generator, xi=True)

    @property
    def xi_dim(self) -> int:
        """Dimension of xi, 0 without it."""
        dim: int = self.generator.config.latent_dim - self.latent_dim
        return dim

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        xi: Tensor | None = None,
        network: str = "generator",
        *,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples: G(z, xi), or D(z), for z and xi ~ N(0, I).

        Args:
            batch_size: How many.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone
                (only its latents where a network has `norm_statistics="batch"`).
            latents: z, (batch, latent_dim), instead of random ones.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            xi: (batch, xi_dim), or (1, xi_dim) for all, instead of random ones.
            network: "generator" or "decoder".
            max_batch_size: Most images that go through the network at once; the images are the same to rounding
                unless it has `norm_statistics="batch"`.

        Raises:
            UserError: The arguments' shapes do not fit, the network is unknown, or xi is given to the decoder.
        """
        latents = self.prior_latents(batch_size, generator, latents)
        xi = self._detail(len(latents), xi, network, generator)

        def make(latents: Tensor, xi: Tensor | None) -> Any:
            return self.finish(self._make(latents, xi), output_type, return_dict)

        return in_chunks(make, max_batch_size, latents, xi)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        output_type: str | None = None,
        xi: Tensor | None = None,
        network: str = "generator",
        generator: Generators = None,
    ) -> GenerativePipelineOutput:
        """G(z, xi), or D(z), for given z.

        Args:
            latents: z, (batch, latent_dim).
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            xi: (batch, xi_dim), or (1, xi_dim) for all; random by default.
            network: "generator" or "decoder".
            generator: For a random xi.

        Raises:
            UserError: As for a call.
        """
        latents = self.random_latents(len(latents), (self.latent_dim,), None, latents, self.dtype)
        samples = self._make(latents, self._detail(len(latents), xi, network, generator))
        return GenerativePipelineOutput(images=self.finish(samples, output_type, False)[0])

    @torch.no_grad()
    def reconstruct(
        self,
        images: Any,
        output_type: str | None = None,
        num_samples: int = 1,
        sample: bool = False,
        network: str = "generator",
        generator: torch.Generator | None = None,
    ) -> GenerativePipelineOutput:
        """Reconstructions: G(z, xi), or D(z), for the code of each image.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            num_samples: Reconstructions of each image. They differ in the generator's xi, and in z with `sample`.
            sample: Draw z ~ q(z|x) for each reconstruction instead of the mean. The authors measure with draws.
            network: "generator" or "decoder".
            generator: For xi and z.

        Returns:
            batch * num_samples images: all of the first one, then all of the second, and so on.

        Raises:
            UserError: `num_samples` is below 1, or above it where nothing would differ; or the network is unknown.
        """
        if num_samples > 1 and not sample and (network == "decoder" or not self.xi_dim):
            raise UserError(
                f"num_samples={num_samples} reconstructions without xi would all be alike; use sample=True"
            )
        mean, log_std = self.network_posterior(self.prepare_images(images, self.dtype))
        latents = mean.repeat_interleave(num_samples, dim=0)
        if sample:
            latents = self.posterior_draw(latents, log_std, generator)
        return self.decode(latents, output_type, network=network, generator=generator)

    @torch.no_grad()
    def interpolate(
        self,
        a: Any,
        b: Any,
        num_steps: int = 8,
        mode: str = "spherical",
        output_type: str | None = None,
        xi: Tensor | None = None,
        network: str = "generator",
        generator: torch.Generator | None = None,
    ) -> GenerativePipelineOutput:
        """A path from the code of image `a` to that of `b`, both included, with one xi all along.

        Args:
            a: One image.
            b: One image.
            num_steps: Images on the path, at least 2.
            mode: "linear" or "spherical".
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            xi: (1, xi_dim); random by default.
            network: "generator" or "decoder".
            generator: For a random xi.

        Raises:
            UserError: `a` or `b` is more than one image, or an argument is impossible.
        """
        path = self.path_between(a, b, num_steps, mode)
        if xi is None and network == "generator":
            xi = self.random_latents(1, (self.xi_dim,), generator, None, self.dtype)
        return self.decode(path, output_type, xi, network)

    def _detail(self, count: int, xi: Tensor | None, network: str, generator: Generators) -> Tensor | None:
        """Xi of the generator, (count, xi_dim), random where none is given; None for the decoder."""
        if network not in NETWORKS:
            raise UserError(f"network must be {' or '.join(map(repr, NETWORKS))}, got {network!r}")
        if network == "decoder":
            if xi is not None:
                raise UserError("network='decoder' takes no xi; leave it out, or use network='generator'")
            return None
        if xi is None:
            return self.random_latents(count, (self.xi_dim,), generator, None, self.dtype)
        if tuple(xi.shape) not in ((count, self.xi_dim), (1, self.xi_dim)):
            raise UserError(f"xi must be ({count}, {self.xi_dim}) or (1, {self.xi_dim}), got {tuple(xi.shape)}")
        return xi.expand(count, -1)

    def _make(self, latents: Tensor, xi: Tensor | None) -> Tensor:
        """G(z, xi) for z (batch, latent_dim), or D(z) without xi."""
        if xi is None:
            return self.network_decode(latents)
        joined = torch.cat([latents, xi.to(latents)], dim=1)
        sample: Tensor = self.generator(joined.to(self.generator.dtype)).sample
        return sample
