"""Pipeline of InfoGAN: a GAN's, with codes that can be asked for, varied and read off an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.roles import CodingDiscriminator, Generator
from hf_genmodels.sizes import sample_shape

from .base import GenerativePipelineOutput, Generators
from .gan import GANPipeline
from .labels import ClassLabels
from .latents import as_latents, truncate_normal


@dataclass
class InfoGANCodes(BaseOutput):
    """What Q(c|x) says of images.

    Args:
        probabilities (`torch.Tensor` of shape `(batch, num_categories)`, *optional*): Of the categories.
        mean (`torch.Tensor` of shape `(batch, num_codes)`, *optional*): Of the continuous codes.
        std (`torch.Tensor` of shape `(batch, num_codes)`, *optional*): Their standard deviations.
    """

    probabilities: Tensor | None = None
    mean: Tensor | None = None
    std: Tensor | None = None


class InfoGANPipeline(GANPipeline):
    """Samples of InfoGAN's generator, with given codes or random ones, and the codes of images.

    It has all of `GANPipeline`: its class labels are the categories of the code, which were found without labels and
    have no names unless you give them some (`register_classes`); its continuous codes are the first `num_codes`
    coordinates of the latents.

    Args:
        generator: G, z and category -> x.
        discriminator: d and Q, x -> logit and codes.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
        id2label: Names of the categories by number.

    Raises:
        UserError: The networks have different codes or samples.
    """

    model_cpu_offload_seq = "generator->discriminator"
    sampling_options = GANPipeline.sampling_options | {"codes"}
    has_labelled_classes = False
    discriminator: Any

    def __init__(
        self,
        generator: Generator,
        discriminator: CodingDiscriminator,
        value_scale: float = 255.0,
        id2label: dict[int, str] | None = None,
    ) -> None:
        super().__init__(generator, value_scale, id2label)
        check_codes(type(self).__name__, generator, discriminator)
        self.register_modules(discriminator=discriminator)

    @property
    def num_codes(self) -> int:
        """Number of continuous codes."""
        number: int = self.discriminator.config.num_codes
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
        codes: Tensor | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples: G(z, c), whose codes are random where none are given.

        Args:
            batch_size: How many; by default one for each of `class_labels`, or of `codes`.
            generator: As of `GANPipeline`; the other parts of the latents are those that it gives without `codes`.
            latents: (batch, latent_dim), instead of random ones; `codes` take the place of their first coordinates.
            class_labels: Categories, 0 to num_categories - 1; by default each is as likely as the others.
            truncation: As of `GANPipeline`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            max_batch_size: Most images that go through the network at once.
            codes: The continuous codes, (num_codes,) for all samples or (batch, num_codes); they were standard normal
                in training.

        Raises:
            UserError: As of `GANPipeline`, or the codes' shape does not fit.
        """
        if codes is not None:
            labels = self.find_labels(class_labels)
            codes = as_latents("codes", codes)
            if latents is None and batch_size is None:
                batch_size = max(len(codes) if codes.ndim == 2 else 1, 1 if labels is None else len(labels))
            if latents is None or truncation is None:  # else refused below
                latents = self.random_latents(batch_size or 1, (self.latent_dim,), generator, latents, self.dtype)
                if truncation is not None:
                    latents, truncation = truncate_normal(latents, truncation), None
            latents = self._with_codes(latents, codes)
        return super().__call__(
            batch_size, generator, latents, class_labels, truncation, output_type, return_dict, max_batch_size
        )

    @torch.no_grad()
    def traverse(
        self,
        code: int | None = None,
        num_rows: int = 8,
        num_steps: int = 8,
        span: float = 2.0,
        generator: torch.Generator | None = None,
        output_type: str | None = None,
    ) -> GenerativePipelineOutput:
        """Rows of samples along which one code alone changes (the paper's figure 2).

        Args:
            code: Which continuous code, from 0; by default the category, or the first code where there is none.
            num_rows: Rows, each of latents of its own, and of the categories in turn where a continuous code changes.
            num_steps: Of a continuous code: samples in a row, at least 2. Of the category a row has all.
            span: Of a continuous code: the first sample has -span, the last one span.
            generator: For the latents.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.

        Returns:
            The images, row after row; `hf_genmodels.plots.image_grid(images, columns)` lays them out.

        Raises:
            UserError: There is no such code, or a number is impossible.
        """
        latents = self.random_latents(num_rows, (self.latent_dim,), generator, None, self.dtype)
        if code is None and self.num_classes is not None:
            labels = torch.arange(self.num_classes).repeat(num_rows)
            return self._decode(latents.repeat_interleave(self.num_classes, 0), labels, output_type)
        code = code or 0
        if not 0 <= code < self.num_codes:
            raise UserError(f"code must be 0 to {self.num_codes - 1} (num_codes is {self.num_codes}), got {code}")
        if num_steps < 2:
            raise UserError(f"num_steps must be at least 2, got {num_steps}")
        path = latents.repeat_interleave(num_steps, 0)
        path[:, code] = torch.linspace(-span, span, num_steps).repeat(num_rows).to(path)
        rows = None if self.num_classes is None else torch.arange(num_rows) % self.num_classes
        return self._decode(path, None if rows is None else rows.repeat_interleave(num_steps), output_type)

    @torch.no_grad()
    def find_codes(self, images: Any) -> InfoGANCodes:
        """What Q(c|x) says of images.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.

        Returns:
            In float32; `probabilities.argmax(1)` are categories to call with as `class_labels`, `mean` are `codes`.

        Raises:
            UserError: The images do not fit.
        """
        found = self.discriminator(self.prepare_images(images, self.discriminator.dtype))
        has_category, has_codes = found.class_logits is not None, found.code_mean is not None
        return InfoGANCodes(
            probabilities=found.class_logits.float().softmax(1) if has_category else None,
            mean=found.code_mean.float() if has_codes else None,
            std=found.code_log_std.float().exp() if has_codes else None,
        )

    def _with_codes(self, latents: Tensor, codes: Tensor) -> Tensor:
        """Latents (batch, latent_dim) whose first coordinates are codes (num_codes,) or (batch, num_codes)."""
        count = self.num_codes
        if codes.ndim not in (1, 2) or codes.shape[-1] != count or (codes.ndim == 2 and len(codes) != len(latents)):
            raise UserError(
                f"codes must be ({count},) for all samples or ({len(latents)}, {count}), got {tuple(codes.shape)}"
            )
        return torch.cat([codes.to(latents).expand(len(latents), count), latents[:, count:]], dim=1)


def check_codes(where: str, generator: Any, discriminator: Any) -> None:
    """Compare the codes that a generator takes with those that a discriminator recognises, and their samples.

    Args:
        where: What the message begins with.
        generator: The generator.
        discriminator: The discriminator.

    Raises:
        UserError: They differ.
    """
    made, seen = generator.config, discriminator.config
    if made.get("num_classes") != seen.num_categories:
        raise UserError(
            f"{where}: the generator takes {made.get('num_classes') or 'no'} categories, the discriminator recognises "
            f"{seen.num_categories or 'none'}"
        )
    if made.latent_dim < seen.num_codes:
        raise UserError(f"{where}: {seen.num_codes} continuous codes do not fit into {made.latent_dim} latents")
    shapes = sample_shape(made.out_channels, made.sample_size), sample_shape(seen.in_channels, seen.sample_size)
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{where}: the generator makes samples of shape {shapes[0]}, the discriminator takes {shapes[1]}"
        )
