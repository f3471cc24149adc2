"""A trained model as a prior over images: latents with a density, and a decoder that can be differentiated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..pipelines.aae import AAEPipeline
from ..pipelines.avae import AVAEPipeline
from ..pipelines.base import GenerativePipeline
from ..pipelines.encoding import EncodingPipeline
from ..pipelines.flow import FlowPipeline
from ..pipelines.gan import GANPipeline


@dataclass(frozen=True)
class LatentPrior:
    """Images are decode(z), and z is N(0, I) where `is_normal`.

    Attributes:
        dim: Of z.
        decode: (rows, dim) float32, and (rows,) labels or None -> images in [-1, 1], differentiable.
        encode: Images in [-1, 1] -> z to begin a search at; None without an encoder.
        draw: (count, generator) -> z drawn from the prior, float32.
        is_normal: See above.
        begins_at_zero: Whether one start of a search is z = 0.
    """

    dim: int
    decode: Callable[[Tensor, Tensor | None], Tensor]
    encode: Callable[[Tensor], Tensor] | None
    draw: Callable[[int, torch.Generator | None], Tensor]
    is_normal: bool = True
    begins_at_zero: bool = False


def latent_prior(pipe: GenerativePipeline) -> LatentPrior:
    """The prior that a pipeline's latents are.

    Raises:
        UserError: It has none, or its images depend on more than latents and classes.
    """
    if isinstance(pipe, AVAEPipeline):
        return _avae(pipe)
    if isinstance(pipe, EncodingPipeline):
        return _encoding(pipe)
    if isinstance(pipe, GANPipeline):

        def generate(latents: Tensor, labels: Tensor | None) -> Tensor:
            return pipe._generate(latents.to(pipe.dtype), labels)

        return LatentPrior(pipe.latent_dim, generate, None, _normal(pipe, pipe.latent_dim))
    if isinstance(pipe, FlowPipeline):
        return _flow(pipe)
    raise UserError(
        f"a {type(pipe).__name__} is no prior for inverse problems: use a GAN, a model with encoder and prior (VAE, "
        "AVAE, ...), a flow or a DDPM"
    )


def _normal(pipe: GenerativePipeline, dim: int) -> Callable[[int, torch.Generator | None], Tensor]:
    return lambda count, generator: pipe.random_latents(count, (dim,), generator, None, torch.float32)


def _encoding(pipe: EncodingPipeline) -> LatentPrior:
    def decode(latents: Tensor, labels: Tensor | None) -> Tensor:
        return pipe.network_decode(latents.to(pipe.dtype))

    def encode(images: Tensor) -> Tensor:
        return pipe.network_posterior(images.to(pipe.dtype))[0].float()

    def draw(count: int, generator: torch.Generator | None) -> Tensor:
        return pipe.prior_latents(count, generator, None).float()

    is_normal = not isinstance(pipe, AAEPipeline) or pipe.config.prior == "gaussian"
    return LatentPrior(pipe.latent_dim, decode, encode, draw, is_normal)


def _avae(pipe: AVAEPipeline) -> LatentPrior:
    """Z and xi together; the encoder says nothing of xi, which begins at its mean, 0."""
    dim = pipe.latent_dim

    def decode(latents: Tensor, labels: Tensor | None) -> Tensor:
        return pipe._make(latents[:, :dim].to(pipe.dtype), latents[:, dim:])

    def encode(images: Tensor) -> Tensor:
        codes = pipe.network_posterior(images.to(pipe.dtype))[0].float()
        return torch.cat([codes, codes.new_zeros(len(codes), pipe.xi_dim)], 1)

    return LatentPrior(dim + pipe.xi_dim, decode, encode, _normal(pipe, dim + pipe.xi_dim))


def _flow(pipe: FlowPipeline) -> LatentPrior:
    """The flow's continuous samples: its grey levels have no gradient. Searches begin at z = 0, the mode."""
    network: Any = pipe.flow
    levels = pipe.num_levels
    if pipe.context_dim is not None:
        raise UserError("a flow with a context is no prior for inverse problems; use one without")

    def decode(latents: Tensor, labels: Tensor | None) -> Tensor:
        # not `generate`, which keeps nothing for gradients
        sample: Tensor = network.inverse(latents.to(pipe.dtype), labels)[0]
        # as `losses.dequantization.quantize`, without its rounding: the middle of a level becomes the level
        return sample if levels is None else ((sample.float() + 0.5) * levels - 0.5) / (levels - 1) * 2 - 1

    return LatentPrior(pipe.latent_dim, decode, None, _normal(pipe, pipe.latent_dim), begins_at_zero=True)
