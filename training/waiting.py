"""How long the run waits for its data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator


class DataWait:
    """Measures the share of the steps' time that is spent waiting for batches, from one log to the next."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._start, self._waited, self._elsewhere = time.perf_counter(), 0.0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what takes batches."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Around what is no part of the steps: pictures, held-out figures, checkpoints."""
        start = time.perf_counter()
        yield
        self._elsewhere += time.perf_counter() - start

    def share(self, accelerator: Accelerator) -> float:
        """The share since it began, in [0, 1], of the process that waited most; begins anew.

        Every process must call this alike, and on a GPU when its steps are over.
        """
        share = self._waited / max(time.perf_counter() - self._start - self._elsewhere, 1e-9)
        self.restart()
        return float(accelerator.gather(torch.tensor([share], device=accelerator.device)).max())
