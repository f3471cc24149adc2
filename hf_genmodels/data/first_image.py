"""What the first image of a split tells of all: the parts of a stack, the colours of label maps."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .conversion import BadImage, Conversion
from .decoding import Encoded, Record, Stack, opened, stored_file
from .label_maps import described, palette_colors
from .spec import DataSpec, LabelMaps, Part


def completed(
    spec: DataSpec, columns: Sequence[str], first: Record, conversion: Conversion, counts: np.ndarray | None
) -> DataSpec:
    """A split's spec with what its first image tells.

    Args:
        spec: Of the split.
        columns: That the images are read from.
        first: The first image.
        conversion: What is done to modes and values.
        counts: Of label maps: how many pixels have each class.
    """
    if isinstance(first, Stack) and first.mixed:
        spec = replace(spec, parts=_parts(first, columns, conversion))
    if conversion.label_maps is not None and counts is not None:
        colors = _colors(first, conversion.label_maps)
        spec = replace(spec, label_maps=described(conversion.label_maps, counts, colors))
    return spec


def _parts(stack: Stack, columns: Sequence[str], conversion: Conversion) -> tuple[Part, ...]:
    """The images of a stack; that they are alike in all examples follows from their kinds."""
    parts = []
    for column, part in zip(columns, stack.parts, strict=True):
        with opened(part, conversion) as (header, _):
            parts.append(Part(column, header.kind.channels, header.kind.value_scale))
    return tuple(parts)


def _colors(first: Record, maps: LabelMaps) -> tuple[tuple[int, int, int], ...] | None:
    """The colours of a label map's palette; None where it has none of its own."""
    if not isinstance(first, Encoded) or (first.path or "").lower().endswith(".npy"):
        return None
    with contextlib.suppress(BadImage, OSError), stored_file(first) as file:
        return palette_colors(file, maps.num_classes)
    return None
