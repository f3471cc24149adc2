"""Anomaly scores of every pipeline that reconstructs or knows a density, and the area under their curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_genmodels import DataArguments
from hf_genmodels.data import evaluation_batches, load_split
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.metrics.detection import auroc
from hf_genmodels.pipelines.anomaly import AnomalyPipeline
from tests.families import TINY
from tests.testing_utils.pipelines import VECTOR_SHAPE, random_images, tiny_pipeline
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import write_pictures

SCORING = [name for name in TINY if isinstance(tiny_pipeline(name), AnomalyPipeline)]
RECONSTRUCTING = [name for name in SCORING if name not in ("GaussianPipeline", "GaussianMixturePipeline")]
DIGITS = {"dataset_name": "builtin:digits"}
SETTINGS: dict[str, Any] = {
    "split": "test",
    "metrics": ["auroc"],
    "num_samples": 200,
    "batch_size": 64,
    "extractor": None,
    "seed": 0,
    "progress": False,
}


def test_which_pipelines_score_anomalies() -> None:
    wanted = {"VAEPipeline", "BiGANPipeline", "VAEGANPipeline", "AVAEPipeline", "AAEPipeline", "AutoencoderPipeline"}
    assert set(RECONSTRUCTING) == wanted


@pytest.mark.parametrize("shape", [(3, 8, 8), VECTOR_SHAPE])
@pytest.mark.parametrize("name", RECONSTRUCTING)
def test_the_score_is_the_mean_of_the_map(name: str, shape: tuple[int, ...]) -> None:
    pipeline: Any = tiny_pipeline(name, shape)
    images = random_images(shape)
    options = {"network": "decoder"} if name == "AVAEPipeline" else {}
    decoded = pipeline.reconstruct(images, output_type="pt", **options).images
    error = (decoded - images).square()
    expected = error.mean(1) if len(shape) == 3 else error
    found = pipeline.anomaly_map(images)
    assert found.shape == (3, *shape[1:]) if len(shape) == 3 else found.shape == (3, *shape)
    assert len(shape) == 1 or (decoded.min() > 0 and decoded.max() < 1), "a picture would be clamped, its score is not"
    torch.testing.assert_close(found, expected)
    score = pipeline.anomaly_score(images)
    assert score.tolist() == pytest.approx(found.flatten(1).mean(1).tolist(), rel=1e-5)
    assert torch.equal(pipeline.anomaly_score(images), score)


@pytest.mark.parametrize("name", SCORING)
def test_the_threshold_is_a_quantile_of_the_scores(name: str) -> None:
    pipeline: Any = tiny_pipeline(name)
    images = random_images((1, 8, 8), 20)

    def noise() -> dict[str, Any]:
        return {"generator": torch.Generator().manual_seed(0)} if pipeline.random_anomaly_scores else {}

    scores = pipeline.anomaly_score(images, **noise()).tolist()
    assert pipeline.anomaly_threshold(images, **noise()) == pytest.approx(np.quantile(scores, 0.95), rel=1e-5)
    found = pipeline.anomaly_threshold(images, quantile=0.5, **noise())
    assert found == pytest.approx(np.quantile(scores, 0.5), rel=1e-5)
    with refused(r"quantile must lie in \[0, 1\], got 1.5"):
        pipeline.anomaly_threshold(images, quantile=1.5)


def test_the_class_that_was_left_out_is_the_anomaly() -> None:
    """The principal components of all digits but one reconstruct that one worse."""
    train = next(evaluation_batches(load_split(DataArguments(**DIGITS), "train"), batch_size=2000))
    pixels = train["image"][train["label"] != 1].flatten(1)
    pipeline: Any = tiny_pipeline("AutoencoderPipeline")
    torch.manual_seed(0)
    _, _, directions = torch.pca_lowrank(pixels, 10, center=True)
    mean = pixels.mean(0)

    def reconstruct(sample: torch.Tensor) -> torch.Tensor:
        flat = sample.flatten(1) - mean
        return (flat @ directions @ directions.T + mean).reshape(sample.shape)

    pipeline.network_reconstruct = reconstruct
    (result,) = evaluate_pipeline(pipeline, DataArguments(**DIGITS, exclude_label="1"), **SETTINGS)
    test = next(evaluation_batches(load_split(DataArguments(**DIGITS), "test"), batch_size=200))
    scores = pipeline.anomaly_score((test["image"] + 1) / 2)
    assert result["value"] == auroc(scores, test["label"] == 1)
    assert result["name"] == "AUROC" and result["settings"]["anomaly"] == "1" and result["value"] > 0.6
    assert result["settings"]["num_samples"] == 200


def test_what_auroc_needs(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    with refused("auroc needs --exclude_label: the class that is the anomaly"):
        evaluate_pipeline(pipeline, DataArguments(**DIGITS), **SETTINGS)
    with refused("--exclude_label cat is no class of the data"):
        evaluate_pipeline(pipeline, DataArguments(**DIGITS, exclude_label="cat"), **SETTINGS)
    with refused("auroc needs anomaly scores, and GANPipeline has no anomaly_score"):
        evaluate_pipeline(tiny_pipeline("GANPipeline"), DataArguments(**DIGITS, exclude_label="1"), **SETTINGS)
    folder = str(write_pictures(tmp_path / "pictures"))
    unlabelled = DataArguments(train_data_dir=folder, cache_dir=str(tmp_path), exclude_label="1")
    with refused("auroc needs labels, and the data have none"):
        evaluate_pipeline(pipeline, unlabelled, **SETTINGS | {"split": "train"})


@pytest.mark.parametrize("name", ["AutoencoderPipeline", "GaussianPipeline", "VAEPipeline", "GaussianMixturePipeline"])
def test_weights_that_are_not_finite_give_no_scores(name: str) -> None:
    pipeline = tiny_pipeline(name)
    with torch.no_grad():
        for tensor in pipeline.components.popitem()[1].state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
    for method in ("anomaly_score", "anomaly_threshold", "encode", "log_likelihood"):
        if hasattr(pipeline, method):
            with refused("NaN|not finite"):
                getattr(pipeline, method)(random_images((1, 8, 8)))
