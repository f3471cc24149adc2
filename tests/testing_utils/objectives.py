"""What the tests of objectives share: data they are built for, batches, and the loop's part in a loss."""

from __future__ import annotations

from typing import Any

import torch

from hf_genmodels import DataSpec
from hf_genmodels.objectives.base import Noise, Objective

IMAGES = DataSpec("builtin:digits", 1, (8, 8), 16.0, tuple("abc"), 100, "0" * 12)
VECTORS = DataSpec("builtin:toy2d", 2, None, 1.0, None, 100, "1" * 12)


def make_batch(data: DataSpec, count: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random examples on the grid of the data's values, with labels where the data have them."""
    generator = torch.Generator().manual_seed(seed)
    if data.is_image:
        levels = int(data.value_scale) + 1
        image = torch.randint(levels, (count, *data.shape), generator=generator) / data.value_scale * 2 - 1
    else:
        image = torch.randn(count, *data.shape, generator=generator)
    batch = {"image": image, "index": torch.arange(count)}
    if data.class_names:
        batch["label"] = torch.randint(len(data.class_names), (count,), generator=generator)
    return batch


def seeded_noise(seed: int = 7) -> Noise:
    return Noise(seed)


def losses_of(objective: Objective, batch: dict[str, torch.Tensor], seed: int = 7) -> dict[str, Any]:
    """Losses of the only phase on the raw networks."""
    (phase,) = objective.phases
    return objective.losses(phase, objective.networks, batch, seeded_noise(seed), {})
