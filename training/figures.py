"""Losses of the steps between two logs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor


class RecordedLosses:
    """Every loss since the last log, left where it was computed.

    Attributes:
        values: Name -> one value of each micro-batch, on the device.
        steps: Name -> the step of each of them.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.steps: dict[str, list[int]] = {}

    def add(self, losses: Mapping[str, Tensor], prefix: str, step: int) -> None:
        """Keep the losses of a micro-batch, under their names behind `prefix`."""
        for name, value in losses.items():
            self.values.setdefault(prefix + name, []).append(value.detach())
            self.steps.setdefault(prefix + name, []).append(step)

    def clear(self) -> None:
        self.values.clear()
        self.steps.clear()

    def first_not_finite(self, accelerator: Accelerator) -> tuple[str, int] | None:
        """The loss that was first not finite in any process, and in which step; every process must call this alike."""
        if not self.values:
            return None
        flat = torch.stack([value.float() for values in self.values.values() for value in values])
        is_bad = iter(accelerator.reduce((~flat.isfinite()).float(), "sum").tolist())
        first_bad: dict[str, int] = {}
        for name, steps in self.steps.items():
            bad = [step for step in steps if next(is_bad)]
            if bad:
                first_bad[name] = bad[0]
        if not first_bad:
            return None
        name = min(first_bad, key=first_bad.__getitem__)  # what it spoilt in other phases came later
        return name, first_bad[name]

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes; every process must call this alike."""
        if not self.values:
            return {}
        mine = torch.stack([torch.stack([v.float() for v in values]).mean() for values in self.values.values()])
        return dict(zip(self.values, accelerator.reduce(mine, "mean").tolist(), strict=True))
