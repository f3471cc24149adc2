"""Images and vectors in, batches out: Hub data sets, folders, parquet files, streams and built-in sets.

Importing the options and the description of data (`DataArguments`, `DataSpec`, `Layout`) imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .arguments import DataArguments
from .spec import DataSpec, LabelMaps, Layout

if TYPE_CHECKING:
    from .batches import TrainingBatches, evaluation_batches
    from .loading import LoadedData, load_data, load_split

__all__ = [
    "DataArguments",
    "DataSpec",
    "LabelMaps",
    "Layout",
    "LoadedData",
    "TrainingBatches",
    "evaluation_batches",
    "load_data",
    "load_split",
]

_HEAVY = {
    "LoadedData": "loading",
    "TrainingBatches": "batches",
    "evaluation_batches": "batches",
    "load_data": "loading",
    "load_split": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HEAVY[name]}"), name)
    globals()[name] = value
    return value
