"""Examples of two images: pairs, two domains, images and a reserve of others."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from .sets import Batch, MapDataset
from .spec import DataSpec, Layout

# What the two images of an example are called in a batch.
BATCH_NAMES: dict[str, tuple[str, str]] = {
    "pair": ("conditioning_image", "target_image"),
    "domains": ("image_a", "image_b"),
    "reserved": ("image", "constraint_image"),
}
# One in five examples is held in reserve.
RESERVED_EVERY = 5


class TwoImageDataset:
    """Examples of two images.

    In a pair the two have the same row and the same crop and flip. Otherwise an epoch goes through the first images,
    and each draws its partner among the second ones, with replacement (as the authors of CycleGAN do); without
    augmentation the partners go round in order.

    Args:
        first: The first images.
        second: The second ones; of a pair, as many.
        layout: How they belong together.
    """

    def __init__(self, first: MapDataset, second: MapDataset, layout: Layout) -> None:
        self.first = first
        self.second = second
        self.paired = layout.kind == "pair"
        self.names = BATCH_NAMES[layout.kind]
        self.in_memory = first.in_memory and second.in_memory
        described = f"{layout.kind} {first.spec.fingerprint} {second.spec.fingerprint}"
        self.spec: DataSpec = dataclasses.replace(
            first.spec, other=second.spec, fingerprint=hashlib.sha256(described.encode()).hexdigest()[:12]
        )

    def __len__(self) -> int:
        return len(self.first)

    @property
    def augmented(self) -> bool:
        """Whether training batches depend on random draws."""
        return not self.paired or self.first.augmented or self.second.augmented

    def collate(self, work: tuple[np.ndarray, np.ndarray | None]) -> Batch:
        """Makes a batch; `work` as for `MapDataset.collate`."""
        indices, draws = work
        batch = self.first.collate(work)
        if self.paired:
            second = self.second.collate(work)
        elif draws is None:
            second = self.second.collate((indices % len(self.second), None))
        else:
            partners = (draws[3] * len(self.second)).astype(np.int64)
            second = self.second.collate((partners, draws[4:]))
        images = dict(zip(self.names, (batch.pop("image"), second["image"]), strict=True))
        return {**batch, **images}
