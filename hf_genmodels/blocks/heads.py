"""The last layers that a translator can have."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn

from ..checks import check_choice
from ..choices import OutputHead
from ..errors import UserError
from ..losses.polarimetry import calibration_matrix
from .polarimetry import ConeHead


class PlainHead(nn.Module):
    """Every channel by itself: its hyperbolic tangent, or as it is.

    Args:
        out_channels: Of the sample.
        bounded: Samples are in [-1, 1]; otherwise they are logits.
    """

    def __init__(self, out_channels: int, bounded: bool) -> None:
        super().__init__()
        self.in_channels, self.bounded = out_channels, bounded

    def forward(self, raw: Tensor, source: Tensor) -> Tensor:
        """(batch, channels, height, width), any numbers -> the same shape."""
        return torch.tanh(raw) if self.bounded else raw


def output_head(network: str, config: Any) -> PlainHead | ConeHead:
    """The last layer that a translator's configuration asks for.

    Args:
        network: Its name, for the message.
        config: Has out_channels, output_head, intensity_source and calibration.

    Raises:
        UserError: An unknown choice, a cone without four channels, or what belongs to a cone without one.
    """
    check_choice("output_head", config["output_head"], get_args(OutputHead))
    if config["output_head"] == "cone":
        if config["out_channels"] != len(calibration_matrix()):
            raise UserError(
                f'{network}: output_head "cone" makes the four intensities of a polarimetric camera, not '
                f"{config['out_channels']} channels"
            )
        return ConeHead(config["calibration"], config["intensity_source"])
    for name in ("intensity_source", "calibration"):
        if config[name] not in ("learned", None):
            raise UserError(f'{network}: {name} is of output_head "cone"; leave it out')
    return PlainHead(config["out_channels"], bounded=config["output_head"] == "tanh")
