"""Pipeline of images from a few known pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.metrics.constraints import constraint_errors, constraint_map, kept_share
from hf_genmodels.roles import PixelwiseNetwork

from .base import GenerativePipeline, GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .images import SampleShape, to_network


@dataclass
class PixelwisePipelineOutput(GenerativePipelineOutput):
    """Samples that keep to known pixels.

    Args:
        images: As of every pipeline.
        satisfied (`torch.Tensor` of shape `(batch,)`): Share of each sample's known pixels whose squared error, mean
            over the channels, is below 0.1, on the scale of [-1, 1].
        mse (`torch.Tensor` of shape `(batch,)`): Mean squared error at the known pixels, on the same scale.
        constraint_map (`torch.Tensor` of shape `(batch, height, width)`): 1 at the known pixels that `satisfied`
            counts, -1 at those that are missed, 0 elsewhere, int8; `hf_genmodels.plots.constraint_picture` shows it.
    """

    satisfied: Tensor
    mse: Tensor
    constraint_map: Tensor


class PixelwisePipeline(GenerativePipeline):
    """Samples of a generator G(y, M, z) of images from the values y at the known pixels M.

    Args:
        generator: G.
        value_scale: What 1 stands for in the data: 255 for 8-bit images, 65535 for 16-bit ones.
    """

    measures = frozenset({"completions"})
    model_cpu_offload_seq = "generator"
    generator: PixelwiseNetwork

    def __init__(self, generator: PixelwiseNetwork, value_scale: float = 255.0) -> None:
        super().__init__()
        self.register_modules(generator=generator)
        self.register_to_config(value_scale=value_scale)

    @torch.no_grad()
    def __call__(
        self,
        values: Any,
        mask: Any,
        num_samples: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> PixelwisePipelineOutput | tuple[Any, Tensor, Tensor, Tensor]:
        """Samples for maps of known pixels, z uniform in [-1, 1].

        Args:
            values: y, one or a batch of PIL images, arrays or tensors, see `images.to_network`; in float arrays and
                tensors unknown pixels may have any value, NaN as well.
            mask: M, (height, width) for all maps, or (batch, height, width): an array or a tensor, True or 1 where a
                pixel is known.
            num_samples: Samples for each map.
            generator: One for all, or a sequence with one for each image that is returned: it reproduces it alone.
            latents: z in [-1, 1], (batch * num_samples, *generator.latent_shape), instead of random ones.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `PixelwisePipelineOutput` instead of a tuple of its fields.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Returns:
            batch * num_samples images, those of the first map first, and how well they keep to the known pixels.

        Raises:
            UserError: Values, mask or latents do not fit the network or each other, a known value lies outside of
                [0, 1], a mask has no known pixel, or another argument is impossible.
        """
        known_values, known = _prepare(values, mask, self.sample_shape, self.config.value_scale)
        known_values, known = (each.repeat_interleave(num_samples, dim=0) for each in (known_values, known))
        latents = self._uniform_latents(len(known), generator, latents)

        def make(known_values: Tensor, known: Tensor, latents: Tensor) -> Any:
            place = self._execution_device
            return self._complete(known_values.to(place), known.to(place), latents, output_type, return_dict)

        return in_chunks(make, max_batch_size, known_values, known, latents)

    def _complete(
        self, known_values: Tensor, known: Tensor, latents: Tensor, output_type: str | None, return_dict: bool
    ) -> PixelwisePipelineOutput | tuple[Any, Tensor, Tensor, Tensor]:
        """What a call returns for maps of known pixels, (batch, ...), and z of each."""
        samples = self.generator(known_values.to(self.dtype), known.to(self.dtype), latents).sample.float()
        (images,) = self.finish(samples, output_type, False)
        mse = constraint_errors(samples, known_values, known)
        kept = constraint_map(samples, known_values, known)
        satisfied = kept_share(kept)
        if not return_dict:
            return images, satisfied, mse, kept
        return PixelwisePipelineOutput(images=images, satisfied=satisfied, mse=mse, constraint_map=kept)

    def _uniform_latents(self, count: int, generator: Generators, latents: Tensor | None) -> Tensor:
        """(count, *latent_shape) in [-1, 1]; `generator` as for `random_latents`."""
        shape = self.generator.latent_shape
        if latents is None:
            normal = self.random_latents(count, shape, generator, None, torch.float32)
            return (2 * torch.special.ndtr(normal) - 1).to(self.dtype)
        latents = self.random_latents(count, shape, generator, latents, self.dtype)
        if len(latents) != count:
            raise UserError(f"{len(latents)} latents for {count} images (maps x num_samples); give one for each image")
        return latents


def _prepare(values: Any, mask: Any, shape: SampleShape, value_scale: float) -> tuple[Tensor, Tensor]:
    """What the user knows -> y in [-1, 1], 0 where nothing is known, and M (batch, 1, height, width), float32."""
    batch, out_of_range = _read(values, shape, value_scale)
    known = _read_mask(mask, shape)
    if len(known) not in (1, len(batch)):
        raise UserError(f"{len(known)} masks for {len(batch)} maps of values; give one mask for all, or one for each")
    known = known.expand(len(batch), -1, -1, -1).to(batch.device)
    if (out_of_range & (known > 0)).any():
        raise UserError(
            "values must lie in [0, 1] at the known pixels; divide 8-bit ones by 255, or give integer arrays"
        )
    return batch * known, known


def _read(values: Any, shape: SampleShape, value_scale: float) -> tuple[Tensor, Tensor]:
    """Images -> (batch, *shape) in [-1, 1], and where they lie outside of [0, 1], which the mask may excuse."""
    if isinstance(values, (list, tuple)) and values:
        batches, outside = zip(*(_read(image, shape, value_scale) for image in values), strict=True)
        return torch.cat(batches), torch.cat(outside)
    if isinstance(values, Tensor) and values.is_floating_point():
        fine = (values >= 0) & (values <= 1)
        return to_network(torch.where(fine, values, 0), shape), to_network((~fine).float(), shape) > 0
    if isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating):
        inside = (values >= 0) & (values <= 1)
        clean, outside_map = np.where(inside, values, 0), np.where(inside, 0.0, 1.0)
        return to_network(clean, shape), to_network(outside_map, shape) > 0
    batch = to_network(values, shape, value_scale)
    return batch, torch.zeros_like(batch, dtype=torch.bool)


def _read_mask(mask: Any, shape: SampleShape) -> Tensor:
    """([batch,] height, width) -> (batch, 1, height, width) float32 on the CPU."""
    if isinstance(mask, (list, tuple)) and mask and isinstance(mask[0], Tensor):
        mask = torch.stack(list(mask)) if len({each.shape for each in mask}) == 1 else None
    if isinstance(mask, np.ndarray):
        mask = np.ascontiguousarray(mask)  # torch takes no flipped views
    try:
        known = torch.as_tensor(mask).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"mask must be an array or a tensor of True and False, got {type(mask).__name__}") from None
    batch = known if known.ndim == 3 else known[None]
    if tuple(batch.shape[1:]) != shape[1:] or not len(batch):
        raise UserError(f"mask must be ([batch,] {shape[1]}, {shape[2]}), got {tuple(known.shape)}")
    if not ((batch == 0) | (batch == 1)).all():
        raise UserError("mask must hold True or 1 where a pixel is known and False or 0 elsewhere")
    without = (batch.flatten(1).sum(1) == 0).nonzero().flatten().tolist()
    if without:
        raise UserError(f"mask {without[0]} has no known pixel; each needs at least one")
    return batch[:, None].float()
