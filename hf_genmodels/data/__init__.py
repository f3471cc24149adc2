"""Images and vectors in, batches out: Hub data sets, folders, parquet files, streams and built-in sets."""

from __future__ import annotations

from .arguments import DataArguments
from .batches import TrainingBatches, evaluation_batches
from .layouts import Layout
from .loading import LoadedData, load_data, load_split
from .spec import DataSpec

__all__ = [
    "DataArguments",
    "DataSpec",
    "Layout",
    "LoadedData",
    "TrainingBatches",
    "evaluation_batches",
    "load_data",
    "load_split",
]
