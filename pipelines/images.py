"""From what users hold (PIL images, arrays, tensors) to what networks take, and back."""

from __future__ import annotations

import logging
import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hf_genmodels.data.decoding import DEEP_MODES
from hf_genmodels.errors import UserError

logger = logging.getLogger(__name__)

SampleShape = tuple[int, ...]


def to_network(images: Any, shape: SampleShape, value_scale: float = 255.0) -> Tensor:
    """Images as users give them -> float32 (batch, channels, height, width) in [-1, 1]; vectors stay as they are.

    Args:
        images: One or a list of: PIL image, turned as its EXIF orientation says; array (height, width[, channels]) or,
            as a whole batch, (batch, height, width[, channels]); or a tensor ([batch,] channels, height, width).
            Floats are in [0, 1], of booleans True is white, of uint8 255; of uint16 it is `value_scale` where the data
            have more than 8 bits, else 65535. A vector is an array or tensor ([batch,] dim), or a list of numbers.
        shape: What the network takes: (channels, height, width) or (dim,).
        value_scale: What 1 stands for in the data that it was trained on.

    Raises:
        UserError: Another mode, size, type or range; the message says which was expected.
    """
    if isinstance(images, (list, tuple)) and images:
        if len(shape) == 1 and all(isinstance(number, Real) for number in images):
            return to_network(torch.tensor(images, dtype=torch.float32), shape)
        return torch.cat([to_network(image, shape, value_scale) for image in images])
    if isinstance(images, Image.Image):
        batch = _from_array(_from_pil(images, shape), shape, value_scale)
    elif isinstance(images, Tensor):
        batch = images if images.ndim == len(shape) + 1 else images[None]
        if len(shape) == 3:
            batch = _in_units(batch, str(batch.dtype).removeprefix("torch."), "tensors", value_scale)
    elif isinstance(images, np.ndarray):
        batch = _from_array(images, shape, value_scale)
    else:
        what = "an empty list" if isinstance(images, (list, tuple)) else type(images).__name__
        raise UserError(f"images must be PIL images, arrays, tensors or a list of them, got {what}")
    if tuple(batch.shape[1:]) != shape:
        raise UserError(_misfit(tuple(batch.shape[1:]), shape))
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


def turned(image: Image.Image) -> Image.Image:
    """A picture as its EXIF orientation says, which is how training sees it."""
    return ImageOps.exif_transpose(image)


def image_size(image: Any, channels: int) -> tuple[int, int]:
    """Height and width of a user's images, which are to have so many channels.

    Raises:
        UserError: There is none, they are no images, or of different sizes.
    """
    if not isinstance(image, (list, tuple)) or not image:
        return _size(image, channels)
    sizes = [_size(each, channels) for each in image]
    for number, size in enumerate(sizes):
        if size != sizes[0]:
            raise UserError(
                f"image {number} is {size[0]}x{size[1]} (height x width), image 0 {sizes[0][0]}x{sizes[0][1]}: give "
                "images of one size in one call"
            )
    return sizes[0]


def _size(first: Any, channels: int) -> tuple[int, int]:
    """`image_size` of one image, or of one array or tensor of several."""
    if isinstance(first, Image.Image):
        first = turned(first)
        return first.height, first.width
    shape = tuple(getattr(first, "shape", ()))
    if isinstance(first, Tensor) and len(shape) in (3, 4):
        return shape[-2], shape[-1]
    if isinstance(first, np.ndarray) and len(shape) == 3 and channels == 1 and shape[2] in (2, 3, 4):
        raise UserError(f"an array of shape {shape} has {shape[2]} channels instead of 1: give image.convert('L')")
    if isinstance(first, np.ndarray) and len(shape) in (2, 3, 4):
        no_channels = len(shape) == 2 or (len(shape) == 3 and channels == 1 != shape[2])
        return shape[-2:] if no_channels else shape[-3:-1]
    raise UserError(
        "image must be PIL images, arrays ([batch,] height, width[, channels]), tensors ([batch,] channels, height, "
        f"width) or a list of them, got {type(first).__name__} {shape or ''}".rstrip()
    )


def _misfit(got: SampleShape, shape: SampleShape) -> str:
    """What is said of images of another shape."""
    advice = ""
    if len(got) == len(shape) == 3:
        same_size = got[1:] == shape[1:]
        resize = "; resize them, as PIL.ImageOps.fit does (in a command: --resolution)"
        advice = f": {got[0]} channels instead of {shape[0]}" if same_size else resize
    return f"the network takes {'vectors' if len(shape) == 1 else 'images'} of shape {shape}, got {got}{advice}"


def _from_pil(image: Image.Image, shape: SampleShape) -> np.ndarray:
    wanted = {1: ("L", "1", *DEEP_MODES), 3: ("RGB",)}.get(shape[0], ()) if len(shape) == 3 else ()
    if not wanted:
        what = f"images of {shape[0]} channels: give arrays or tensors" if len(shape) == 3 else "vectors"
        raise UserError(f"a PIL image of mode {image.mode} does not fit a network that takes {what}")
    if image.mode not in wanted:
        kind = "grey" if shape[0] == 1 else "RGB"
        raise UserError(
            f"a PIL image of mode {image.mode} does not fit a network that takes {kind} images: give "
            f"image.convert({wanted[0]!r})"
        )
    image = turned(image)
    pixels = np.array(image.convert("L") if image.mode == "1" else image)
    if image.mode == "I":
        if not 0 <= pixels.min() <= pixels.max() <= 65535:
            raise UserError(
                f"a PIL image of mode I holds values from {pixels.min()} to {pixels.max()}, not 0 to 65535: give an "
                "array of floats in [0, 1]"
            )
        return pixels.astype(np.uint16)
    return pixels


def _in_units(images: Any, dtype: str, what: str, value_scale: float) -> Any:
    """An array or a tensor of an image's values, in [0, 1]."""
    if dtype in ("bool", "uint8", "uint16"):
        images = images.float() if isinstance(images, Tensor) else images.astype(np.float32)
        if dtype == "bool":
            return images
        if dtype == "uint8" and 0 not in images.shape and images.max() == 1:
            logger.warning(
                "images of uint8 hold nothing but 0 and 1, which is 1/255 of white; give masks as booleans or floats"
            )
        white = 255.0 if dtype == "uint8" else value_scale if value_scale > 255 else 65535.0
        return images / white
    if not dtype.startswith(("float", "bfloat")) and dtype != "longdouble":
        raise UserError(f"{what} of images must be float in [0, 1], uint8 or uint16, got {dtype}")
    return images


def _from_array(array: np.ndarray, shape: SampleShape, value_scale: float) -> Tensor:
    is_image = len(shape) == 3
    if is_image:
        array = _in_units(array, array.dtype.name, "arrays", value_scale)
    elif not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise UserError(f"arrays of vectors must hold numbers, got {array.dtype}")
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
        output_type: "pil": list of PIL images (mode L, RGB, or grey I;16 where `value_scale` is over 255). "np": array
            (batch, height, width, channels) in [0, 1]. "pt": tensor (batch, channels, height, width) in [0, 1]. None:
            "pil" where that exists. Vectors come as (batch, dim), unchanged.
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
    if not math.isfinite(samples.sum().item()) and not samples.isfinite().all():  # one pass, unless the sum overflows
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
    if value_scale > 255 and shape[0] == 1:
        return [Image.fromarray((image[..., 0] * value_scale).round().astype(np.uint16)) for image in array]
    pixels = (array * 255).round().astype(np.uint8)
    return [Image.fromarray(image.squeeze(-1) if shape[0] == 1 else image) for image in pixels]
