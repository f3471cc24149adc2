"""Pictures of known pixels that samples keep to or miss."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError

KEPT, MISSED = (0.2, 0.85, 0.2), (0.95, 0.1, 0.1)


def constraint_picture(constraint_map: Tensor) -> Tensor:
    """Known pixels that are kept in green and missed ones in red, on black (figure 2.2 d of Ruffino's thesis).

    Args:
        constraint_map: (batch, height, width), 1 where a known pixel is kept, -1 where it is missed, else 0; see
            `metrics.constraints.constraint_map`.

    Returns:
        (batch, 3, height, width), red, green and blue in [0, 1].

    Raises:
        UserError: Another shape.
    """
    if constraint_map.ndim != 3:
        raise UserError(f"a constraint map is (batch, height, width), got {tuple(constraint_map.shape)}")
    colours = torch.tensor([(0.0, 0.0, 0.0), KEPT, MISSED], device=constraint_map.device)  # -1 is the last
    return colours[constraint_map.sign().long()].movedim(-1, 1)
