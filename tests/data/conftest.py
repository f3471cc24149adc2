from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_genmodels.data import DataArguments


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    """Writes files by relative path: arrays as images (or `.npy`), Pillow images as they are, strings as text."""

    def write(files: Mapping[str, Any]) -> Path:
        root = tmp_path / "images"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content)
            elif isinstance(content, Image.Image):
                content.save(path)
            elif path.suffix == ".npy":
                np.save(path, content)
            else:
                Image.fromarray(content).save(path)
        return root

    return write


@pytest.fixture
def arguments(tmp_path: Path) -> Callable[..., DataArguments]:
    """`DataArguments` whose cache is thrown away."""

    def make(**options: Any) -> DataArguments:
        return DataArguments(**{"cache_dir": str(tmp_path / "cache"), **options})

    return make


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of parquet files, one per split, from columns and their features."""

    def write(splits: Mapping[str, Mapping[str, Any]], features: Mapping[str, Any] | None = None) -> Path:
        root = tmp_path / "tables"
        root.mkdir(exist_ok=True)
        for name, columns in splits.items():
            typed = None if features is None else datasets.Features(features)
            datasets.Dataset.from_dict(dict(columns), features=typed).to_parquet(
                root / f"{name}-00000-of-00001.parquet"
            )
        return root

    return write


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
