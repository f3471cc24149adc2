"""Large batches in chunks: networks see a part at a time, whoever calls gets the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from torch import Tensor


def in_chunks(make: Callable[..., Any], max_batch_size: int | None, *rows: Any) -> Any:
    """`make(*rows)` of at most `max_batch_size` rows at a time, and its results joined.

    What is drawn at random is among the rows: drawn before, for all of them, it is the same whatever the chunks.

    Args:
        make: Takes some rows of each, and gives as many rows: a tensor, an array, a list, or a tuple, a dict or an
            output object of these.
        max_batch_size: None for all at once.
        rows: Tensors or sequences of one length; None stays None.
    """
    count = next(len(each) for each in rows if each is not None)
    if max_batch_size is None or count <= max_batch_size:
        return make(*rows)
    parts = []
    for start in range(0, count, max_batch_size):
        chunk = slice(start, start + max_batch_size)
        parts.append(make(*(None if each is None else each[chunk] for each in rows)))
    return joined(parts)


def joined(parts: list[Any]) -> Any:
    """Results of several chunks as one."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, list):
        return [row for part in parts for row in part]
    if isinstance(first, tuple):
        return tuple(joined(list(each)) for each in zip(*parts, strict=True))
    values = {name: joined([part[name] for part in parts]) for name in first}
    return type(first)(**values) if isinstance(first, BaseOutput) else values
