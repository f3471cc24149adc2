"""Features of real data that an evaluation leaves for the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hf_genmodels.data import DataArguments
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.metrics.extractors import Extracted, Extractor
from hf_genmodels.pipelines.base import GenerativePipeline, GenerativePipelineOutput


class Noise(GenerativePipeline):
    """Random images."""

    sample_shape = (1, 8, 8)

    def __call__(self, batch_size: int, generator: Any, output_type: str) -> Any:
        return GenerativePipelineOutput(torch.rand(batch_size, 1, 8, 8, generator=generator))

    def reconstruct(self, images: torch.Tensor, output_type: str) -> Any:
        return GenerativePipelineOutput(images / 2)

    measures = frozenset({"samples", "reconstructions"})


class Counting:
    """An extractor that counts the images it looks at."""

    def __init__(self) -> None:
        self.images = 0

    def of(self, weights_sha256: str | None = "a" * 64) -> Extractor:
        def network(images: torch.Tensor) -> Extracted:
            self.images += len(images)
            return Extracted(images.flatten(1)[:, 20:26], None)

        return Extractor("counting", network=network, weights_sha256=weights_sha256)


@pytest.fixture
def looked_at(tmp_path: Path) -> Callable[..., tuple[int, dict[str, float]]]:
    """Evaluates, and says how many real images the extractor saw, and the figures."""

    def evaluate(data: DataArguments | None = None, *metrics: str, **options: Any) -> tuple[int, dict[str, float]]:
        counting, sha = Counting(), options.pop("sha", "a" * 64)
        data = data or DataArguments(dataset_name="builtin:digits", cache_dir=str(tmp_path / "cache"))
        given: dict[str, Any] = {"split": "test", "num_samples": 40, "batch_size": 16, "seed": 0, "progress": False}
        results = evaluate_pipeline(
            Noise(),
            data,
            metrics=metrics or ("fid", "precision_recall"),
            extractor=counting.of(sha),
            **given | options,
        )
        made = int(results[0]["settings"]["num_samples"])
        return counting.images - made, {result["name"]: result["value"] for result in results}

    return evaluate


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.safetensors"))


def test_a_second_evaluation_has_the_features_of_the_first(looked_at: Any, tmp_path: Path) -> None:
    first = looked_at()
    assert first[0] == 40
    assert looked_at() == (0, first[1])
    # another metric looks at the images themselves, which need no features
    images, figures = looked_at(None, "fid", "mse")
    assert (images, figures["FID"]) == (0, first[1]["FID"])
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "changes",
    [{"num_samples": 30}, {"split": "train"}, {"sha": "b" * 64}, {"batch_size": 8}, {"feature_cache": False}],
)
def test_what_features_depend_on_makes_others(looked_at: Any, changes: dict[str, Any]) -> None:
    looked_at()
    assert looked_at(**changes)[0] == changes.get("num_samples", 40)


def test_nothing_is_kept_of_unknown_weights_or_against_a_wish(looked_at: Any, tmp_path: Path) -> None:
    looked_at(sha=None)
    looked_at(feature_cache=False)
    assert not files(tmp_path)


def test_files_that_were_not_used_for_longest_make_room(
    looked_at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept_as(age: int, number: int) -> Path:
        before = set(files(tmp_path))
        looked_at(num_samples=number)
        (path,) = set(files(tmp_path)) - before
        os.utime(path, (age, age))
        return path

    first, second, third = (kept_as(age, 20 + age) for age in (1, 2, 3))
    looked_at(num_samples=21)  # which is then the one used last
    monkeypatch.setattr("hf_genmodels.evaluation.cache.KEPT", sum(p.stat().st_size for p in (first, second, third)))
    looked_at(num_samples=20)
    left = set(files(tmp_path))
    assert first in left and third in left and second not in left
    monkeypatch.setattr("hf_genmodels.evaluation.cache.KEPT", 1)
    fourth = kept_as(4, 30)
    assert files(tmp_path) == [fourth]
    assert looked_at(num_samples=30)[0] == 0


def spoil(path: Path, how: str) -> None:
    if how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "no file of tensors":
        path.write_bytes(b"pickled")
    elif how == "other numbers":
        content = bytearray(path.read_bytes())
        content[-4:] = b"\0\0\0\0"
        path.write_bytes(content)
    elif how == "without its key":
        save_file(load_file(path), path)
    elif how == "other tensors":
        save_file({"weights": torch.zeros(2)}, path)


@pytest.mark.parametrize("how", ["half", "no file of tensors", "other numbers", "without its key", "other tensors"])
def test_a_damaged_or_forged_file_is_not_used(
    looked_at: Any, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = looked_at()
    (path,) = files(tmp_path)
    spoil(path, how)
    assert looked_at() == first
    assert "computed anew" in caplog.text
    assert looked_at() == (0, first[1])


@pytest.mark.parametrize("in_memory", [2**20, 0])
def test_an_image_that_was_exchanged_for_one_of_the_same_size_in_bytes(
    looked_at: Any, tmp_path: Path, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_genmodels.data.columns.IN_MEMORY_BYTES", in_memory)
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()

    def save(index: int) -> None:
        pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.bmp")

    for index in range(12):
        save(index)
    data = DataArguments(train_data_dir=str(tmp_path / "images"), cache_dir=str(tmp_path / "cache"))
    options = {"split": "train", "num_samples": 12}
    first = looked_at(data, **options)
    assert looked_at(data, **options) == (0, first[1])
    save(4)
    images, figures = looked_at(data, **options)
    assert images == 12
    assert figures["FID"] != first[1]["FID"]
