"""The history of fakes that CycleGAN's discriminators learn from (Shrivastava et al. 2017, arXiv 1612.07828)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """For every row of the global batch a store of earlier fakes.

    Until a row's store is full, a fake goes into it and comes out again. Then, half of the time, it takes the place of
    a random stored one, which comes out instead; otherwise it just passes. Unlike the authors' single store, a store
    for each row is the same however many processes and micro-batches share the work; for a batch of 1 it is theirs.

    Args:
        size: Fakes of a store; 0 for none, and fakes just pass.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._stored: dict[int, Tensor] = {}
        self._filled: dict[int, int] = {}

    def exchange(self, fakes: Tensor, share: int, draws: Tensor) -> Tensor:
        """Put fakes in and take as many out.

        Args:
            fakes: (batch, channels, height, width), without a gradient.
            share: Which slice of the global batch they are, as `Noise.share` counts.
            draws: (batch, 2) uniform numbers: whether to exchange, and with which.

        Returns:
            As `fakes`.
        """
        if self.size == 0:
            return fakes
        filled = self._filled.get(share, 0)
        if filled == 0:
            self._stored[share] = fakes.new_zeros((self.size, *fakes.shape))
        stored = self._stored[share] = self._stored[share].to(fakes.device)
        if filled < self.size:
            stored[filled] = fakes
            self._filled[share] = filled + 1
            return fakes
        rows = torch.arange(len(fakes), device=fakes.device)
        slots = (draws[:, 1].float() * self.size).long().clamp(max=self.size - 1)
        exchanged = (draws[:, 0] < 0.5)[:, None, None, None]
        old = stored[slots, rows]
        stored[slots, rows] = torch.where(exchanged, fakes, old)
        return torch.where(exchanged, old, fakes)

    def state_dict(self) -> dict[str, Any]:
        """The stores and how full they are."""
        return {"stored": dict(self._stored), "filled": dict(self._filled)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._stored, self._filled = dict(state["stored"]), dict(state["filled"])
