"""From what users hold (PIL images, arrays, tensors) to what networks take, and back."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hf_genmodels.errors import UserError

SampleShape = tuple[int, ...]


def to_network(images: Any, shape: SampleShape) -> Tensor:
    """Images as users give them -> float32 (batch, channels, height, width) in [-1, 1]; vectors stay as they are.

    Args:
        images: One or a list of: PIL image; array (height, width[, channels]) or, as a whole batch, (batch, height,
            width[, channels]), in [0, 1] if float, else uint8 or uint16; or a tensor ([batch,] channels, height,
            width) in [0, 1]. A vector is an array or tensor ([batch,] dim), or a list of numbers.
        shape: What the network takes: (channels, height, width) or (dim,).

    Raises:
        UserError: Another mode, size, type or range; the message says which was expected.
    """
    if isinstance(images, (list, tuple)) and images:
        if len(shape) == 1 and all(isinstance(number, Real) for number in images):
            return to_network(torch.tensor(images, dtype=torch.float32), shape)
        return torch.cat([to_network(image, shape) for image in images])
    if isinstance(images, Image.Image):
        batch = _from_pil(images, shape)
    elif isinstance(images, Tensor):
        batch = images if images.ndim == len(shape) + 1 else images[None]
    elif isinstance(images, np.ndarray):
        batch = _from_array(images, shape)
    else:
        what = "an empty list" if isinstance(images, (list, tuple)) else type(images).__name__
        raise UserError(f"images must be PIL images, arrays, tensors or a list of them, got {what}")
    if tuple(batch.shape[1:]) != shape:
        raise UserError(
            f"the network takes images of shape {shape}, got {tuple(batch.shape[1:])}; resize or convert them"
        )
    if not batch.numel():
        raise UserError(f"there are no images: the batch is empty, {tuple(batch.shape)}")
    batch = batch.float()
    if len(shape) == 1:
        if not batch.isfinite().all():
            raise UserError("vectors must be finite, and there are NaN or infinite numbers")
        return batch
    if not (batch.min() >= 0 and batch.max() <= 1):
        raise UserError(f"images must lie in [0, 1], got [{batch.min():.4g}, {batch.max():.4g}]")
    return batch * 2 - 1


def _from_pil(image: Image.Image, shape: SampleShape) -> Tensor:
    wanted = {1: ("L", "1", "I;16"), 3: ("RGB",)}.get(shape[0], ()) if len(shape) == 3 else ()
    if image.mode not in wanted:
        raise UserError(f"a PIL image of mode {image.mode} does not fit a network that takes samples of shape {shape}")
    if image.mode == "1":
        image = image.convert("L")
    return _from_array(np.array(image), shape)


def _from_array(array: np.ndarray, shape: SampleShape) -> Tensor:
    is_image = len(shape) == 3
    if is_image and array.dtype in (np.uint8, np.uint16):
        array = array / np.float32(np.iinfo(array.dtype).max)
    elif not np.issubdtype(array.dtype, np.floating if is_image else np.number) or np.iscomplexobj(array):
        allowed = "of images must be float in [0, 1], uint8 or uint16" if is_image else "of vectors must hold numbers"
        raise UserError(f"arrays {allowed}, got {array.dtype}")
    # a copy: torch takes neither flipped views nor long doubles
    batch = torch.from_numpy(array.astype(np.float32))
    if not is_image:
        return batch if batch.ndim == 2 else batch[None]
    if batch.ndim == 2 or (shape[0] == 1 and batch.ndim == 3 and tuple(batch.shape[1:]) == shape[1:]):
        batch = batch[..., None]
    if batch.ndim == 3:
        batch = batch[None]
    if batch.ndim != 4:
        raise UserError(f"an array of images must be ([batch,] height, width[, channels]), got shape {array.shape}")
    return batch.permute(0, 3, 1, 2)


def from_network(samples: Tensor, output_type: str | None, value_scale: float) -> Any:
    """A network's samples -> "pil", "np" or "pt".

    Args:
        samples: (batch, channels, height, width) in [-1, 1] (clamped here), or (batch, dim).
        output_type: "pil": list of PIL images (mode L, RGB, or I;16 where `value_scale` is 65535). "np": array (batch,
            height, width, channels) in [0, 1]. "pt": tensor (batch, channels, height, width) in [0, 1]. None: "pil"
            where that exists. Vectors come as (batch, dim), unchanged.
        value_scale: What 1 stands for in the data: 255, 65535, ...

    Raises:
        UserError: "pil" is asked of data that are no grey or RGB pictures, the type is unknown, or the samples are not
            finite.
    """
    shape = tuple(samples.shape[1:])
    is_image = len(shape) == 3
    is_picture = is_image and shape[0] in (1, 3)
    output_type = output_type or ("pil" if is_picture else "np")
    if output_type not in ("pil", "np", "pt"):
        raise UserError(f"output_type must be 'pil', 'np' or 'pt', got {output_type!r}")
    samples = samples.float()
    if not samples.isfinite().all():
        raise UserError(
            "the samples hold NaN or infinite numbers; so do the network's weights, or it was given numbers far from "
            "those it was trained with"
        )
    if is_image:
        samples = ((samples + 1) / 2).clamp(0, 1)
    if output_type == "pt":
        return samples
    array = samples.cpu().numpy()
    array = array.transpose(0, 2, 3, 1) if is_image else array
    if output_type == "np":
        return array
    if not is_picture:
        raise UserError(f"samples of shape {shape} are no grey or RGB pictures; call with output_type='np' or 'pt'")
    if value_scale == 65535 and shape[0] == 1:
        return [Image.fromarray((image[..., 0] * 65535).round().astype(np.uint16)) for image in array]
    pixels = (array * 255).round().astype(np.uint8)
    return [Image.fromarray(image.squeeze(-1) if shape[0] == 1 else image) for image in pixels]
