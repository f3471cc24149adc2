"""Pictures of polarised light."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..losses.polarimetry import angle_of_linear_polarization, degree_of_linear_polarization


def hsv_to_rgb(hsv: Tensor) -> Tensor:
    """Hue, saturation and value to red, green and blue, (batch, 3, height, width) in [0, 1] each.

    A hue of 0 is red, 1/3 green, 2/3 blue.
    """
    hue, saturation, value = hsv.split(1, dim=1)
    # A primary is at full strength within a sixth of the circle from its own hue, and gone two sixths away.
    sixths = (6 * hue + torch.tensor([5.0, 3.0, 1.0], device=hsv.device)[:, None, None]) % 6
    missing = torch.minimum(sixths, 4 - sixths).clamp(0, 1)
    return value * (1 - saturation * missing)


def polarization_picture(stokes: Tensor) -> Tensor:
    """What is polarised, how much and in which direction, as colours.

    Hue is the angle (red: horizontal, and once around the colours in 180 degrees), saturation the degree of linear
    polarisation, value S0 as a share of the image's largest: depolarised matter is grey.

    Args:
        stokes: (batch, 3, height, width), in any unit. Degrees above 1 count as 1 and negative S0 as 0.

    Returns:
        (batch, 3, height, width), red, green and blue in [0, 1]; an image without light is black.

    Raises:
        UserError: There are not three channels.
    """
    hue = angle_of_linear_polarization(stokes) / math.pi % 1
    saturation = degree_of_linear_polarization(stokes).clamp(max=1).to(hue)
    value = stokes[:, :1].to(hue).clamp(min=0)
    value = value / value.amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(hue.dtype).tiny)
    return hsv_to_rgb(torch.cat([hue, saturation, value], dim=1))
