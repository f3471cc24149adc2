"""What families of two images per example share to show them: units, ranges, pictures beside each other."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.spec import DataSpec


def value_scales(data: DataSpec) -> dict[str, float]:
    """What a translator's pipeline is told of the units of the images that it takes and makes."""
    assert data.other is not None  # the family's layout has two images
    return {"value_scale": data.other.value_scale, "source_value_scale": data.value_scale}


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
