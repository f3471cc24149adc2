"""Figures of latent spaces and of features, as `evaluate` makes them of pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genmodels import AutoPipeline, Classifier
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.losses.likelihood import kl_standard_normal
from hf_genmodels.metrics.latents import aggregate_gaussian_kl, mutual_information_gap
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused

DIGITS = DataArguments(dataset_name="builtin:digits")
SHAPES = DataArguments(dataset_name="builtin:shapes", resolution=8)


def evaluate(name: str, *metrics: str, data: DataArguments = DIGITS, **options: Any) -> dict[str, float]:
    settings: dict[str, Any] = {
        "split": "test", "num_samples": 60, "batch_size": 25, "extractor": None, "seed": 3, "progress": False,
    }  # fmt: skip
    results = evaluate_pipeline(tiny_pipeline(name), data, metrics=metrics, **settings | options)
    return {result["name"]: result["value"] for result in results}


def first(data: DataArguments, column: str) -> torch.Tensor:
    (batch,) = evaluation_batches(load_split(data, "test"), batch_size=10_000)
    return (batch["image"][:60] + 1) / 2 if column == "image" else batch[column][:60]


@pytest.mark.parametrize("name", ["VAEPipeline", "AVAEPipeline", "VAEGANPipeline"])
def test_kl_of_all_and_of_each_dimension(name: str) -> None:
    found = evaluate(name, "latents", "kl_per_dimension")
    mean, log_std = tiny_pipeline(name).posterior(first(DIGITS, "image"))
    kl = kl_standard_normal(mean, log_std)
    assert found["KL"] == pytest.approx(kl.sum(1).mean().item(), rel=1e-5)
    assert [found[f"KL of dimension {j}"] for j in range(kl.shape[1])] == pytest.approx(kl.mean(0).tolist(), rel=1e-4)
    gaussian = aggregate_gaussian_kl(mean, log_std)
    assert found["KL of the codes' Gaussian to the prior"] == pytest.approx(gaussian, rel=1e-4)
    assert found["active units"] == (mean.var(0) > 0.01).sum()


def test_codes_without_posteriors() -> None:
    found = evaluate("AAEPipeline", "latents")
    assert found.keys() == {"active units", "prior draws in holes", "prior draws in holes, codes from the prior"}
    with refused("kl_per_dimension needs an encoder that gives .*, and AAEPipeline has none"):
        evaluate("AAEPipeline", "kl_per_dimension")
    with refused("latents needs an encoder and a prior over its codes, AutoencoderPipeline has none"):
        evaluate("AutoencoderPipeline", "latents")


@pytest.mark.parametrize("name", ["VAEPipeline", "AutoencoderPipeline"])
def test_gap_of_shapes(name: str) -> None:
    found = evaluate(name, "mig", data=SHAPES)
    codes = tiny_pipeline(name).encode(first(SHAPES, "image"))
    gap = mutual_information_gap(codes, first(SHAPES, "factors"))
    assert found["MIG"] == pytest.approx(gap.mean, abs=1e-9)
    assert [found[f"MIG of factor {k}"] for k in range(5)] == pytest.approx(gap.of_factors.tolist(), abs=1e-9)
    with refused("mig needs data that say what each image was made of, and builtin:digits does not"):
        evaluate(name, "mig")


def test_error_in_a_classifiers_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier(sample_size=8, block_out_channels=(4, 8), feature_dim=6).eval()
    classifier.save_pretrained(tmp_path / "judge")
    tiny_pipeline("AVAEPipeline").save_pretrained(tmp_path / "model")
    pipe = AutoPipeline.from_pretrained(tmp_path / "model")
    images = first(DIGITS, "image")
    generator = torch.Generator().manual_seed(3)
    made = torch.cat(
        [pipe.reconstruct(each, output_type="pt", generator=generator).images for each in images.split(25)]
    )
    with torch.no_grad():
        a, b = (classifier(2 * each - 1).features for each in (images, made))
    found = evaluate("AVAEPipeline", "feature_distance", extractor=str(tmp_path / "judge"))
    assert found == {"feature distance": pytest.approx((a - b).square().sum(1).sqrt().mean().item(), rel=1e-5)}
    with refused("feature_distance needs --extractor"):
        evaluate("AVAEPipeline", "feature_distance")
