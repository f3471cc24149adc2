"""Pipeline of every GAN that is a generator alone once it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hf_genmodels.control.latent_search import best_of_restarts, search_latents
from hf_genmodels.errors import UserError
from hf_genmodels.roles import Generator
from hf_genmodels.sizes import sample_shape

from .base import GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .images import SampleShape
from .iterative import IterativePipeline, StepCallback
from .labels import ClassLabels, match_labels, random_labels, require_labels
from .latents import as_latents, interpolate_latents, truncate_normal


class GANPipeline(IterativePipeline):
    """Samples of a GAN's generator, paths and arithmetic between them, and latents of given images.

    Where a method takes `class_labels`, a conditional generator needs them (a call draws them if they are left out):
    one number or name (`id2label`) for all images, or a sequence with one for each; numbers go from 0 to
    num_classes - 1. Latents may be
    tensors, arrays or lists of numbers.

    A generator with `norm_statistics="batch"` normalises each image by the batch it comes in: its samples, and what
    `invert` finds, depend on the other images of a call.

    Args:
        generator: G, z -> x.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        id2label: Names of the classes by number, where it knows classes.
    """

    sampling_options = frozenset({"class_labels", "truncation"})
    model_cpu_offload_seq = "generator"
    generator: Any

    def __init__(
        self,
        generator: Generator,
        value_scale: float = 255.0,
        id2label: dict[int, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(generator=generator)
        self.register_to_config(value_scale=value_scale)
        self.register_classes(id2label)

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one sample, (channels, height, width) or (dim,)."""
        return sample_shape(self.generator.config.out_channels, self.generator.config.sample_size)

    @property
    def latent_dim(self) -> int:
        """Dimension of z."""
        dim: int = self.generator.config.latent_dim
        return dim

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a conditional generator, else None."""
        number: int | None = self.generator.config.get("num_classes")
        return number

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        class_labels: ClassLabels = None,
        truncation: float | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples: G(z) for z ~ N(0, I).

        Args:
            batch_size: How many; by default one for each of `class_labels`.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone
                (only its latents where a network has `norm_statistics="batch"`).
            latents: (batch, latent_dim), instead of random ones.
            class_labels: Of a conditional generator; by default each class is as likely as the others.
            truncation: tau > 0: every coordinate of z is from the normal truncated to [-tau, tau], for samples that
                are more typical and less diverse (Brock et al. 2019, arXiv 1809.11096, section 3.1).
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding
                unless it has `norm_statistics="batch"`.

        Raises:
            UserError: The arguments' shapes do not fit, there is no such class, or `truncation` is impossible or
                comes with given latents.
        """
        labels = self.find_labels(class_labels)
        if latents is not None:
            batch_size = len(latents)
        elif batch_size is None:
            batch_size = 1 if labels is None else len(labels)
        if latents is not None and truncation is not None:
            raise UserError("truncation is for random latents; leave it out where latents are given")
        latents = self.random_latents(batch_size, (self.latent_dim,), generator, latents, self.dtype)
        if truncation is not None:
            latents = truncate_normal(latents, truncation)
        if labels is None and self.num_classes is not None:
            labels = random_labels(self.random_uniform(batch_size, generator), self.num_classes)

        def make(latents: Tensor, labels: Tensor | None) -> Any:
            return self.finish(self._generate(latents, labels), output_type, return_dict)

        return in_chunks(make, max_batch_size, latents, match_labels(labels, batch_size))

    @torch.no_grad()
    def interpolate(
        self,
        a: Tensor,
        b: Tensor,
        num_steps: int = 8,
        mode: str = "spherical",
        class_labels: ClassLabels = None,
        output_type: str | None = None,
    ) -> GenerativePipelineOutput:
        """Samples on a path between two latents, both included.

        Args:
            a: (latent_dim,) or (1, latent_dim).
            b: The same.
            num_steps: Images on the path, at least 2.
            mode: "linear", or "spherical", see `latents.interpolate_latents`.
            class_labels: Of a conditional generator.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.

        Raises:
            UserError: `a` or `b` is no single latent, another argument is impossible, or labels are missing.
        """
        start, end = self._find_latents("a", a), self._find_latents("b", b)
        if len(start) != 1 or len(end) != 1:
            raise UserError(f"interpolate goes from one latent to one latent, got {len(start)} and {len(end)}")
        path = interpolate_latents(start[0], end[0], num_steps, mode)
        return self._decode(path, class_labels, output_type)

    @torch.no_grad()
    def combine(
        self,
        plus: Sequence[Tensor],
        minus: Sequence[Tensor] = (),
        class_labels: ClassLabels = None,
        output_type: str | None = None,
    ) -> GenerativePipelineOutput:
        """The sample of a sum and difference of latents (Radford et al. 2016, arXiv 1511.06434, section 6.3.2).

        Each group of latents that share a trait is replaced by its mean; the paper takes three. Smiling woman -
        neutral woman + neutral man is `combine(plus=[smiling_women, neutral_men], minus=[neutral_women])`.

        Args:
            plus: Groups, each (n, latent_dim) or (latent_dim,), whose means are added.
            minus: Groups whose means are subtracted.
            class_labels: Of a conditional generator.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.

        Returns:
            One image.

        Raises:
            UserError: There is nothing to add, a group is of another shape, or labels are missing.
        """
        if not plus:
            raise UserError("combine takes lists of groups of latents: at least one in plus, any number in minus")
        terms = [self._find_latents("plus", group).mean(0) for group in plus]
        terms += [-self._find_latents("minus", group).mean(0) for group in minus]
        return self._decode(torch.stack(terms).sum(0, keepdim=True), class_labels, output_type)

    @torch.no_grad()
    def invert(
        self,
        images: Any,
        num_steps: int = 500,
        learning_rate: float = 0.1,
        num_restarts: int = 1,
        class_labels: ClassLabels = None,
        generator: torch.Generator | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Tensor:
        """Latents whose samples are like given images: argmin over ||z|| <= sqrt(latent_dim) of ||G(z) - x||^2.

        By Adam from random latents, put back into the ball after every step (Plumerault et al. 2020, arXiv
        2001.10238, algorithm 1), see `search_latents`. It finds a local minimum; more restarts find better ones. The
        generator's weights are left alone.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            num_steps: Of Adam.
            learning_rate: Of Adam.
            num_restarts: Starting points, the same for every image, all tried at once; the best result is kept.
            class_labels: Of a conditional generator.
            generator: For the starting points.
            callback_on_step_end: Called after each step, see `IterativePipeline`; the time step is the step. "latents"
                are those of all starting points, (batch * num_restarts, latent_dim), those of the first image first.
            callback_on_step_end_tensor_inputs: Which tensors it gets.

        Returns:
            (batch, latent_dim), float32.

        Raises:
            UserError: The images do not fit, a number is impossible, or labels are missing.
        """
        target = self.prepare_images(images, torch.float32)
        labels = match_labels(self._require_labels(class_labels), len(target))
        labels = None if labels is None else labels.repeat_interleave(num_restarts)
        starts = self.random_latents(num_restarts, (self.latent_dim,), generator, None, torch.float32)
        repeated = target.repeat_interleave(num_restarts, dim=0)

        def errors(latents: Tensor) -> Tensor:
            samples = self._generate(latents.to(self.dtype), labels)
            return (samples.float() - repeated).square().flatten(1).sum(1)

        names = self.start_steps(callback_on_step_end, callback_on_step_end_tensor_inputs)

        def after_step(step: int, latents: Tensor) -> bool:
            if callback_on_step_end is not None:
                seen = {"latents": latents.detach().clone()}
                latents.copy_(self.end_step(callback_on_step_end, names, step, step, seen)["latents"])
            return self.interrupt

        rates = self.progress_bar([learning_rate] * num_steps)
        found = search_latents(errors, starts.repeat(len(target), 1), rates, in_ball=True, after_step=after_step)
        return best_of_restarts(errors, found, num_restarts)

    # latents and labels ----------------------------------------------------------------------------------------------

    def _generate(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """(batch, latent_dim), and (1,) or (batch,) labels -> what the network makes of them."""
        latents, labels = latents.to(self.generator.dtype), match_labels(labels, len(latents))
        sample: Tensor = (self.generator(latents) if labels is None else self.generator(latents, labels)).sample
        return sample

    def _decode(self, latents: Tensor, class_labels: ClassLabels, output_type: str | None) -> GenerativePipelineOutput:
        samples = self._generate(latents, self._require_labels(class_labels))
        return GenerativePipelineOutput(images=self.finish(samples, output_type, False)[0])

    def _find_latents(self, name: str, latents: Tensor) -> Tensor:
        """(n, latent_dim) or (latent_dim,) -> (n, latent_dim) on this pipeline's device."""
        latents = as_latents(name, latents)
        group = latents if latents.ndim == 2 else latents[None]
        if tuple(group.shape[1:]) != (self.latent_dim,) or not len(group):
            raise UserError(f"{name}: latents must be (n, {self.latent_dim}), got {tuple(latents.shape)}")
        return group.to(self._execution_device, self.dtype)

    def _require_labels(self, class_labels: ClassLabels) -> Tensor | None:
        return require_labels(class_labels, self.num_classes, self._execution_device)
