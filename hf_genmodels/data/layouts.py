"""Examples of two images: pairs, two domains, images and a reserve of others."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import torch

from .placing import Batch, finished
from .sets import MapDataset
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
    and each draws its partner among the second ones, with replacement (as the authors of CycleGAN do). In an
    evaluation every image of either side comes once: of the side that has fewer, the last batches hold fewer or none.

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
        files = [side.spec.files for side in (first, second) if side.spec.files is not None]
        self.spec: DataSpec = dataclasses.replace(
            first.spec,
            other=second.spec,
            fingerprint=hashlib.sha256(described.encode()).hexdigest()[:12],
            files=" ".join(files) or None,
        )

    def __len__(self) -> int:
        return len(self.first)

    @property
    def evaluated(self) -> int:
        """How many rows an evaluation goes through."""
        return max(len(self.first), len(self.second))

    @property
    def augmented(self) -> bool:
        """Whether training batches depend on random draws."""
        return not self.paired or self.first.augmented or self.second.augmented

    @property
    def specs(self) -> dict[str, DataSpec]:
        """What the images of a batch are, by name."""
        return dict(zip(self.names, (self.first.spec, self.second.spec), strict=True))

    def collate(self, work: tuple[np.ndarray, np.ndarray | None]) -> Batch:
        """Makes a batch as networks see it; `work` as for `MapDataset.gather`."""
        return finished(self.gather(work), self.specs)

    def gather(self, work: tuple[np.ndarray, np.ndarray | None]) -> Batch:
        """Makes a batch, its images in the precision in which they are stored; `work` as for `MapDataset.gather`."""
        indices, draws = work
        if not self.paired and draws is None:
            sides = self.first, self.second
            batch, second = (some(side, indices[indices < len(side)]) for side in sides)
        else:
            batch = self.first.gather(work)
            if draws is not None and not self.paired:
                work = (draws[3] * len(self.second)).astype(np.int64), draws[4:]
            second = self.second.gather(work)
        images = dict(zip(self.names, (batch.pop("image"), second["image"]), strict=True))
        return {**batch, **images}


def some(dataset: MapDataset, indices: np.ndarray) -> Batch:
    """These examples without augmentation, or none."""
    if len(indices):
        return dataset.gather((indices, None))
    return {"image": torch.empty(0, *dataset.spec.shape), "index": torch.from_numpy(indices)}
