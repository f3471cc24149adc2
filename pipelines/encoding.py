"""What every pipeline with an encoder, a prior over latents and a decoder shares."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.sizes import sample_shape

from .anomaly import ReconstructingPipeline
from .base import GenerativePipelineOutput, Generators, Task
from .chunks import in_chunks
from .latents import interpolate_latents
from .manifold import ManifoldPipeline


class EncodingPipeline(ManifoldPipeline, ReconstructingPipeline):
    """Samples, codes, reconstructions, paths and anomaly scores, in terms of four hooks.

    `latent_dim`, `network_posterior` and `network_decode` are by default those of components called `encoder` and
    `decoder`; `prior_latents` draws from N(0, I).

    A network with `norm_statistics="batch"` normalises each image by the batch it comes in: its codes and samples
    depend on the other images of a call.
    """

    measures = frozenset({"samples", "reconstructions", "anomalies", "codes", "latents"})
    tasks: ClassVar[tuple[Task, ...]] = ("reconstruct", "encode", "score")
    scores: ClassVar[tuple[str, ...]] = ("anomaly_score",)
    encoder: Any
    decoder: Any

    # hooks -----------------------------------------------------------------------------------------------------------

    @property
    def latent_dim(self) -> int:
        """Dimension of z."""
        dim: int = self.encoder.config.latent_dim
        return dim

    def network_posterior(self, sample: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean of q(z|x), (batch, latent_dim), and its log standard deviation, which broadcasts to it.

        The latter is None where the encoder is deterministic.

        Args:
            sample: (batch, channels, height, width) in [-1, 1], or (batch, dim).
        """
        output = self.encoder(sample.to(self.encoder.dtype))
        return output.mean, output.log_std

    def network_decode(self, latents: Tensor) -> Tensor:
        """(batch, latent_dim) -> what the network shows for them, images in [-1, 1]."""
        sample: Tensor = self.decoder(latents.to(self.decoder.dtype)).sample
        return sample

    def prior_latents(self, batch_size: int, generator: Generators, latents: Tensor | None) -> Tensor:
        """Latents from the prior, (batch_size, latent_dim), or the given ones after a check of their shape."""
        return self.random_latents(batch_size, (self.latent_dim,), generator, latents, self.dtype)

    def network_reconstruct(self, sample: Tensor) -> Tensor:
        """The decoded means of q(z|x)."""
        return self.network_decode(self.network_posterior(sample)[0])

    # what users call -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        *,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples: decoded draws from the prior, without the noise of p(x|z) where the decoder has one.

        Args:
            batch_size: How many.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone
                (only its latents where a network has `norm_statistics="batch"`).
            latents: (batch, latent_dim) to decode instead of random ones.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding
                unless it has `norm_statistics="batch"`.

        Raises:
            UserError: The arguments' shapes do not fit.
        """

        def make(latents: Tensor) -> Any:
            return self.finish(self.network_decode(latents), output_type, return_dict)

        return in_chunks(make, max_batch_size, self.prior_latents(batch_size, generator, latents))

    @torch.no_grad()
    def encode(self, images: Any, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Posterior mean of each image, or a draw from the posterior.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            sample: Draw z ~ q(z|x) instead of returning its mean.
            generator: For the draw.

        Returns:
            (batch, latent_dim).

        Raises:
            UserError: A draw is asked of a deterministic encoder.
        """
        mean, log_std = self.network_posterior(self.prepare_images(images, self.dtype))
        return self.posterior_draw(mean, log_std, generator) if sample else mean

    def posterior_draw(self, mean: Tensor, log_std: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Draws from N(mean, exp(log_std)^2), (batch, latent_dim), for what `network_posterior` gave.

        Raises:
            UserError: The encoder is deterministic.
        """
        if log_std is None:
            raise UserError(f"the encoder of this {type(self).__name__} is deterministic; leave sample=True out")
        noise = self.random_latents(len(mean), tuple(mean.shape[1:]), generator, None, mean.dtype)
        return mean + torch.exp(log_std) * noise

    @torch.no_grad()
    def decode(self, latents: Tensor, output_type: str | None = None) -> GenerativePipelineOutput:
        """What the decoder shows for given (batch, latent_dim)."""
        latents = self.random_latents(len(latents), (self.latent_dim,), None, latents, self.dtype)
        return GenerativePipelineOutput(images=self.finish(self.network_decode(latents), output_type, False)[0])

    @torch.no_grad()
    def reconstruct(self, images: Any, output_type: str | None = None) -> GenerativePipelineOutput:
        """Decoded posterior means."""
        return self.decode(self.encode(images), output_type)

    @torch.no_grad()
    def interpolate(
        self, a: Any, b: Any, num_steps: int = 8, mode: str = "spherical", output_type: str | None = None
    ) -> GenerativePipelineOutput:
        """Decode a path from the code of image `a` to that of `b`, both included; `mode` "linear" or "spherical".

        Raises:
            UserError: `a` or `b` is more than one image, or `mode` or `num_steps` is impossible.
        """
        return self.decode(self.path_between(a, b, num_steps, mode), output_type)

    def path_between(self, a: Any, b: Any, num_steps: int, mode: str) -> Tensor:
        """Latents (num_steps, latent_dim) from the code of image `a` to that of `b`; see `interpolate`."""
        start, end = self.encode(a), self.encode(b)
        if len(start) != 1 or len(end) != 1:
            raise UserError(f"interpolate goes from one image to one image, got {len(start)} and {len(end)}")
        return interpolate_latents(start[0], end[0], num_steps, mode)


class PosteriorPipeline(EncodingPipeline):
    """One whose encoder gives a distribution q(z|x) rather than a code."""

    measures = EncodingPipeline.measures | {"posteriors"}

    @torch.no_grad()
    def posterior(self, images: Any) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z|x) of each image, (batch, latent_dim) both.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
        """
        mean, log_std = self.network_posterior(self.prepare_images(images, self.dtype))
        assert log_std is not None  # `check_fit`
        return mean, log_std.expand_as(mean)


def check_fit(
    pipeline: EncodingPipeline,
    encoder: Any,
    decoder: Any,
    *,
    xi: bool = False,
    needs_log_std: bool = False,
) -> None:
    """Compare an encoder with a decoder that a pipeline is built of.

    Args:
        pipeline: That is being built.
        encoder: x -> z.
        decoder: z -> x, or [z, xi] -> x.
        xi: Whether the decoder may take more numbers than the encoder gives.
        needs_log_std: Whether the encoder must have a shared log standard deviation.

    Raises:
        UserError: Their latents or samples differ, or the encoder is deterministic where it must not be.
    """
    family, ours, theirs = type(pipeline).__name__, encoder.config, decoder.config
    if theirs.latent_dim < ours.latent_dim or (theirs.latent_dim > ours.latent_dim and not xi):
        raise UserError(
            f"{family}: the encoder's latents have dimension {ours.latent_dim}, "
            f"those of {type(decoder).__name__} {theirs.latent_dim}"
        )
    taken = sample_shape(ours.in_channels, ours.sample_size)
    made = sample_shape(theirs.out_channels, theirs.sample_size)
    if taken != made:
        raise UserError(
            f"{family}: the encoder takes samples of shape {taken}, but {type(decoder).__name__} makes {made}"
        )
    if needs_log_std and not ours.get("shared_log_std", True):
        raise UserError(f"{family}: the encoder is deterministic; build it with shared_log_std=True")
