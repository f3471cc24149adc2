"""What families of two images per example share to show them: units, ranges, pictures beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.spec import DataSpec


def value_scales(data: DataSpec) -> dict[str, Any]:
    """What a translator's pipeline is told of the units of the images that it takes and makes."""
    assert data.other is not None  # the family's layout has two images
    return {"value_scale": data.other.value_scale, "source_value_scale": data.value_scale}


def source_parts(data: DataSpec) -> dict[str, Any]:
    """What a pipeline is told of the images that are stacked as its input; nothing of whole ones."""
    return {} if data.parts is None else {"source_parts": [list(part) for part in data.parts]}


def parts_of_input(image: Tensor, data: DataSpec) -> list[Tensor]:
    """The images that were stacked as an input, (batch, channels, height, width) each; or the one that it is."""
    return [image] if data.parts is None else list(image.split([part.channels for part in data.parts], 1))


def in_colors(labels: Tensor, colors: Sequence[Sequence[int]]) -> Tensor:
    """Label maps as pictures, in their classes' colours; what is of no class is white.

    Args:
        labels: (batch, height, width), int64.
        colors: Red, green and blue of each class, 0 to 255.

    Returns:
        (batch, 3, height, width) in [0, 1].
    """
    table = torch.tensor([*colors, (255, 255, 255)], device=labels.device) / 255
    return table[labels.clamp(max=len(colors))].movedim(3, 1)


def in_unit_range(image: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (image + 1) / 2


def side_by_side(*images: Tensor) -> Tensor:
    """One wide picture for each example, of its images from left to right; grey ones beside coloured ones as coloured.

    Args:
        images: (batch, channels, height, width) in [0, 1] each; of more than 3 channels the first is shown.

    Returns:
        (batch, 1 or 3, height, len(images) * width).
    """
    shown = [image if image.shape[1] in (1, 3) else image[:, :1] for image in images]
    channels = max(image.shape[1] for image in shown)
    return torch.cat([image.expand(-1, channels, -1, -1) for image in shown], 3)
