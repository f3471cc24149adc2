"""Data sets that need no download: generated here, or shipped inside another library.

A new set is one file with a function `load(config, split) -> BuiltinSplit`, entered in `BUILTIN_SETS`.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import UserError
from .base import SPLITS, BuiltinSplit
from .digits import load_digits
from .edges import load_edges
from .polarimetric import load_polarimetric
from .shapes import load_shapes
from .textures import load_textures
from .toy2d import load_toy2d

BUILTIN_SETS: dict[str, Callable[[str | None, str], BuiltinSplit]] = {
    "digits": load_digits,
    "edges": load_edges,
    "polarimetric": load_polarimetric,
    "shapes": load_shapes,
    "textures": load_textures,
    "toy2d": load_toy2d,
}

PREFIX = "builtin:"


def load_builtin(dataset_name: str, config: str | None, split: str) -> BuiltinSplit:
    """Generates one split of a built-in set.

    Args:
        dataset_name: `builtin:<name>`.
        config: The variant, for the sets that have several.
        split: "train" or "test".

    Raises:
        UserError: There is no such set, variant or split.
    """
    name = dataset_name.removeprefix(PREFIX)
    if name not in BUILTIN_SETS:
        raise UserError(f"there is no built-in data set {name!r}: choose one of {', '.join(sorted(BUILTIN_SETS))}")
    if split not in SPLITS:
        raise UserError(f"{dataset_name} has no split {split!r}: choose one of {', '.join(SPLITS)}")
    return BUILTIN_SETS[name](config, split)


__all__ = ["BUILTIN_SETS", "PREFIX", "SPLITS", "BuiltinSplit", "load_builtin"]
