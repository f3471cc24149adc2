"""What a built-in set hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...errors import UserError

SPLITS = ("train", "test")


@dataclass(frozen=True)
class BuiltinSplit:
    """One split of a built-in set.

    Attributes:
        pixels: `(examples, channels, height, width)` of uint8 or float32, or `(examples, dim)` of float32 for vectors.
        value_scale: The stored value that means white; 1.0 for vectors.
        labels: `(examples,)` of int64, None where the set has no classes.
        class_names: Names of the labels.
        extras: Further columns of a batch, `(examples, ...)` each.
        columns: Further image columns, `(examples, channels, height, width)` each, with the `value_scale` of `pixels`.
            A name of `pixels` in its part of a pair is among them.
        mirrored_channels: For a column whose channels change places when the image is mirrored left to right, the
            order they then have: `mirrored = image[order][..., ::-1]`.
        label_names: Names of the classes of those columns that are label maps, of uint8.
    """

    pixels: np.ndarray
    value_scale: float
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    mirrored_channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def refuse_config(name: str, config: str | None) -> None:
    """Raises a UserError if a variant is asked of a set that has none."""
    if config is not None:
        raise UserError(f"builtin:{name} has no variants: leave out --dataset_config_name {config}")
