"""Inputs that are made of several images, such as a photograph and a map of depths, stacked along the channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hf_genmodels.errors import UserError

from .images import image_size, to_network


def check_parts(parts: Sequence[Sequence[Any]] | None, network: Any) -> list[list[Any]] | None:
    """The parts of a network's input as its pipeline's configuration holds them.

    Args:
        parts: (name, channels, value scale) of each; None for one whole image.
        network: A translator.

    Raises:
        UserError: They are no such triples, or do not make up the channels that the network takes.
    """
    if parts is None:
        return None
    try:
        found = [[str(name), int(channels), float(scale)] for name, channels, scale in parts]
    except (TypeError, ValueError):
        raise UserError("source_parts must be a list of (name, channels, value scale)") from None
    total, taken = sum(int(channels) for _, channels, _ in parts), network.config.in_channels
    if total != taken:
        raise UserError(f"source_parts have {total} channels together, and the network takes {taken}")
    return found


def stack_parts(image: Any, parts: Sequence[Sequence[Any]]) -> Any:
    """What a user gives a network of several images -> one image whose channels are theirs.

    Args:
        image: A dict of images (or lists of them) by the names of the parts; a list of such dicts, one for each
            example; as many PIL images as there are parts, in their order; or whole images, which stay as they are.
        parts: (name, channels, value scale) of each.

    Returns:
        (batch, channels, height, width) in [0, 1]; of whole images what was given.

    Raises:
        UserError: A part is missing, there is one too many, or the parts do not fit each other.
    """
    names = [str(name) for name, _, _ in parts]
    if isinstance(image, (list, tuple)) and image:
        if all(isinstance(each, Mapping) for each in image):
            return torch.cat([stack_parts(each, parts) for each in image])
        if all(isinstance(each, Image.Image) for each in image) and len(image) == len(parts):
            return stack_parts(dict(zip(names, image, strict=True)), parts)
    examples: Sequence[Any] = image if isinstance(image, (list, tuple)) else [image]
    if any(isinstance(each, Image.Image) for each in examples):
        raise UserError(f"this model takes {len(parts)} images at once: give a dict with {', '.join(names)}")
    if not isinstance(image, Mapping):
        return image
    if sorted(map(str, image)) != sorted(names):
        raise UserError(
            f"image has {', '.join(map(str, image)) or 'nothing'}, and this model takes {', '.join(names)}"
        )
    stacked: list[Tensor] = []
    for name, channels, value_scale in parts:
        images = image[str(name)]
        part = to_network(images, (channels, *image_size(images, channels)), value_scale)
        if stacked and (len(part), part.shape[2:]) != (len(stacked[0]), stacked[0].shape[2:]):
            sizes = (f"{len(each)} of {each.shape[2]}x{each.shape[3]}" for each in (stacked[0], part))
            raise UserError(f"image: the parts {names[0]} and {name} do not fit: {' and '.join(sizes)}")
        stacked.append(part)
    return (torch.cat(stacked, 1) + 1) / 2
