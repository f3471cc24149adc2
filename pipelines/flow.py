"""Pipeline of every normalizing flow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.dequantization import bits_per_dim, dequantize, discrete_log_likelihood, quantize
from hf_genmodels.losses.likelihood import importance_weighted_log_likelihood
from hf_genmodels.roles import FlowNetwork

from .base import GenerativePipeline, GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .labels import ClassLabels, match_labels, random_labels, require_labels
from .latents import interpolate_latents


class FlowPipeline(GenerativePipeline):
    """Samples, latents and likelihoods of a normalizing flow.

    Latents z are standard normal under the model, flat, and as many as there are numbers in a sample. Images are
    handled as grey levels: `encode` takes the middle of each pixel's level, and samples are levels again, so that
    `reconstruct` gives back the very images. Vectors go through as they are.

    Where a method takes `class_labels`, a class-conditional flow needs them (a call draws them if they are left out):
    one number or name (`id2label`) for all images, or a sequence with one for each; numbers go from 0 to
    num_classes - 1.

    Args:
        flow: The network.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        id2label: Names of the classes by number, where it knows classes.
    """

    measures = frozenset({"samples", "reconstructions", "likelihood"})
    tasks = ("encode", "reconstruct", "score")
    scores = ("log_likelihood",)
    sampling_options = frozenset({"temperature", "class_labels"})
    likelihood_draws = 1
    model_cpu_offload_seq = "flow"
    flow: FlowNetwork

    def __init__(self, flow: FlowNetwork, value_scale: float = 255.0, id2label: dict[int, str] | None = None) -> None:
        super().__init__()
        self.register_modules(flow=flow)
        self.register_to_config(value_scale=value_scale)
        self.register_classes(id2label)

    @property
    def latent_dim(self) -> int:
        """Dimension of z, which is that of the data."""
        return self.flow.dim

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a class-conditional flow, else None."""
        number: int | None = self.flow.config.get("num_classes")
        return number

    @property
    def num_levels(self) -> int | None:
        """Grey levels of the images that the flow models; None for continuous data."""
        number: int | None = self.flow.config.get("num_levels")
        return number

    @property
    def context_dim(self) -> int | None:
        """Numbers in the context that the flow is conditioned on; None without one."""
        number: int | None = self.flow.config.get("context_dim")
        return number

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        temperature: float = 1.0,
        class_labels: ClassLabels = None,
        context: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples: the inverse of the flow at z ~ N(0, T^2 I).

        Args:
            batch_size: How many; by default one for each of `class_labels`, or for each row of `context`.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone.
            latents: (batch, latent_dim), instead of random ones.
            temperature: T, the standard deviation of the latents. Below 1 samples are more typical and less diverse
                (Kingma & Dhariwal 2018, arXiv 1807.03039); at 0 there is one for each class.
            class_labels: Of a class-conditional flow; by default each class is as likely as the others.
            context: Of a flow with a context.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Raises:
            UserError: The arguments' shapes do not fit, there is no such class, or `temperature` is negative, not
                finite, or comes with given latents.
        """
        labels = self.find_labels(class_labels)
        if latents is not None:
            batch_size = len(latents)
            if temperature != 1:
                raise UserError("temperature is for random latents; leave it out where latents are given")
        elif batch_size is None:
            batch_size = max(1 if labels is None else len(labels), 1 if context is None else rows_of(context))
        latents = self.random_latents(batch_size, (self.latent_dim,), generator, latents, self.dtype)
        if temperature != 1:
            latents = latents * temperature
        if labels is None and self.num_classes is not None:
            labels = random_labels(self.random_uniform(batch_size, generator), self.num_classes)

        def make(latents: Tensor, labels: Tensor | None, context: Tensor | None) -> Any:
            return self.finish(self._generate(latents, labels, context), output_type, return_dict)

        context = self._given(context, batch_size).get("context")
        return in_chunks(make, max_batch_size, latents, match_labels(labels, batch_size), context)

    @torch.no_grad()
    def encode(self, images: Any, class_labels: ClassLabels = None, context: Tensor | None = None) -> Tensor:
        """The latent of each image, of the middles of its grey levels.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            class_labels: Of a class-conditional flow.
            context: Of a flow with a context.

        Returns:
            (batch, latent_dim).

        Raises:
            UserError: The images do not fit, or labels or a context are missing.
        """
        sample = self.prepare_images(images, torch.float32)
        labels = self._require_labels(class_labels, len(sample))
        middles = self._continuous(sample, torch.full_like(sample, 0.5))
        return self.flow(middles, labels, **self._given(context, len(sample))).latents

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        output_type: str | None = None,
        class_labels: ClassLabels = None,
        context: Tensor | None = None,
    ) -> GenerativePipelineOutput:
        """The images of given latents (batch, latent_dim).

        Raises:
            UserError: Latents of another shape, or labels or a context are missing.
        """
        latents = self.random_latents(len(latents), (self.latent_dim,), None, latents, self.dtype)
        samples = self._generate(latents, self._require_labels(class_labels, len(latents)), context)
        return GenerativePipelineOutput(images=self.finish(samples, output_type, False)[0])

    @torch.no_grad()
    def reconstruct(
        self,
        images: Any,
        output_type: str | None = None,
        class_labels: ClassLabels = None,
        context: Tensor | None = None,
    ) -> GenerativePipelineOutput:
        """Decoded latents of the images: the images themselves, rounded to the model's grey levels."""
        return self.decode(self.encode(images, class_labels, context), output_type, class_labels, context)

    @torch.no_grad()
    def interpolate(
        self,
        a: Any,
        b: Any,
        num_steps: int = 8,
        mode: str = "spherical",
        output_type: str | None = None,
        class_labels: ClassLabels = None,
        context: Tensor | None = None,
    ) -> GenerativePipelineOutput:
        """Decode a path from the latent of image `a` to that of `b`, both included.

        Args:
            a: One image.
            b: Another.
            num_steps: Images on the path, at least 2.
            mode: "linear" as in Kingma & Dhariwal 2018, or "spherical", see `latents.interpolate_latents`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            class_labels: Of a class-conditional flow, one for the whole path.
            context: Of a flow with a context, one for the whole path.

        Raises:
            UserError: `a` or `b` is more than one image, another argument is impossible, or labels or a context are
                missing.
        """
        start, end = (self.encode(image, class_labels, context) for image in (a, b))
        if len(start) != 1 or len(end) != 1:
            raise UserError(f"interpolate goes from one image to one image, got {len(start)} and {len(end)}")
        return self.decode(interpolate_latents(start[0], end[0], num_steps, mode), output_type, class_labels, context)

    @torch.no_grad()
    def log_likelihood(
        self,
        images: Any,
        num_samples: int = likelihood_draws,
        generator: torch.Generator | None = None,
        class_labels: ClassLabels = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Log-likelihood: of vectors the exact log-density, of images a lower bound of the log-probability.

        An image is a cell of the continuous space, and its probability the density's integral over it. With u_k
        uniform in the cell that is estimated by log (1/K) sum_k p(x + u_k) / levels^dim: for K = 1 in the mean the
        usual bound of uniform dequantisation (Theis et al. 2016, arXiv 1511.01844, section 3.1), for more the
        importance-weighted one (Burda et al. 2015, arXiv 1509.00519, eq. 8), which is tighter.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            num_samples: K, draws of u for each image; vectors need none.
            generator: For the draws.
            class_labels: Of a class-conditional flow, whose likelihood is that of the image given its class.
            context: Of a flow with a context, likewise.

        Returns:
            (batch,) nats an image, float32.

        Raises:
            UserError: The images do not fit, `num_samples` is below 1, or labels or a context are missing.
        """
        sample = self.prepare_images(images, torch.float32)
        labels = self._require_labels(class_labels, len(sample))
        given = self._given(context, len(sample))
        if self.num_levels is None:
            return self.flow(sample.to(self.dtype), labels, **given).log_likelihood
        device = self._execution_device if generator is None else generator.device
        log_densities = []
        for _ in self.progress_bar(range(num_samples)) if num_samples > 1 else range(1):
            noise = torch.rand(sample.shape, generator=generator, device=device).to(sample)
            log_densities.append(self.flow(self._continuous(sample, noise), labels, **given).log_likelihood)
        density = importance_weighted_log_likelihood(torch.stack(log_densities))
        return discrete_log_likelihood(density, self.latent_dim, self.num_levels)

    @torch.no_grad()
    def bits_per_dim(
        self,
        images: Any,
        num_samples: int = likelihood_draws,
        generator: torch.Generator | None = None,
        class_labels: ClassLabels = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """`log_likelihood` as a code length, (batch,) bits for each number of a sample; of vectors, of the density."""
        log_likelihood = self.log_likelihood(images, num_samples, generator, class_labels, context)
        return bits_per_dim(log_likelihood, self.latent_dim)

    def _continuous(self, sample: Tensor, noise: Tensor) -> Tensor:
        """(batch, ...) as `prepare_images` gives it, and noise in [0, 1) -> what the network takes."""
        if self.num_levels is not None:
            sample = dequantize(sample, noise, self.num_levels)
        return sample.to(self.dtype)

    def _generate(self, latents: Tensor, labels: Tensor | None, context: Tensor | None) -> Tensor:
        """(batch, latent_dim), and (1,) or (batch,) labels -> images in [-1, 1], or vectors."""
        count = len(latents)
        given = (latents, match_labels(labels, count))
        if hasattr(self.flow, "generate"):
            sample = self.flow.generate(*given, **self._given(context, count))
        else:
            sample, _ = self.flow.inverse(*given, **self._given(context, count))
        return sample if self.num_levels is None else quantize(sample, self.num_levels)

    def _require_labels(self, class_labels: ClassLabels, batch_size: int) -> Tensor | None:
        return match_labels(require_labels(class_labels, self.num_classes, self._execution_device), batch_size)

    def _given(self, context: Tensor | None, batch_size: int) -> dict[str, Tensor]:
        """The context of each sample as an argument of the network, where it takes one.

        Raises:
            UserError: It is missing, means nothing here, or has another shape.
        """
        dim = self.context_dim
        if dim is None:
            if context is not None:
                raise UserError("this flow has no context; leave context out")
            return {}
        if context is None:
            raise UserError(f"this flow needs a context: {dim} numbers")
        context = torch.atleast_2d(context)
        if context.shape not in ((1, dim), (batch_size, dim)):
            raise UserError(f"context must be ({dim},) or ({batch_size}, {dim}), got {tuple(context.shape)}")
        return {"context": context.to(self._execution_device, self.dtype).expand(batch_size, -1)}


def rows_of(context: Tensor) -> int:
    """For how many samples a context is given."""
    return len(context) if context.ndim == 2 else 1
