from __future__ import annotations

import json
import math
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from hf_genmodels.cli import main
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.errors import UserError
from hf_genmodels.evaluation import METRICS, evaluate_pipeline
from hf_genmodels.metrics.record import write_evaluation
from hf_genmodels.metrics.texture import hog_distance, lbp_distance
from hf_genmodels.models.autoencoder import Autoencoder
from hf_genmodels.models.classifier import Classifier
from hf_genmodels.models.vae import VAE
from hf_genmodels.pipelines.autoencoder import AutoencoderPipeline
from hf_genmodels.pipelines.base import GenerativePipeline
from hf_genmodels.pipelines.ddpm import DDPMPipeline
from hf_genmodels.pipelines.vae import VAEPipeline
from tests.testing_utils.networks import tiny_denoiser
from tests.testing_utils.refusals import refused

DIGITS = DataArguments(dataset_name="builtin:digits")
SETTINGS = {"extractor", "weights_sha256", "resize", "num_samples", "num_real", "seed", "dataset", "split"}


class SamplerThatMustNotRun(GenerativePipeline):
    """Has samples only, and fails if one is drawn."""

    sample_shape = (1, 8, 8)

    def __call__(self, batch_size: int, generator: torch.Generator, output_type: str) -> Any:
        raise AssertionError("sampled although the request cannot be served")


@pytest.fixture
def pipeline() -> VAEPipeline:
    torch.manual_seed(0)
    pipeline = VAEPipeline(VAE(sample_size=8, latent_dim=3, block_out_channels=(4, 8)).eval())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def extractor(tmp_path: Path) -> str:
    torch.manual_seed(1)
    Classifier(sample_size=8, block_out_channels=(4, 8), feature_dim=6).save_pretrained(tmp_path / "judge")
    return str(tmp_path / "judge")


def evaluate(
    pipeline: GenerativePipeline, *metrics: str, data: DataArguments = DIGITS, **options: Any
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "split": "test", "num_samples": 60, "batch_size": 25, "extractor": None, "seed": 3, "progress": False,
    }  # fmt: skip
    results = evaluate_pipeline(pipeline, data, metrics=metrics, **settings | options)
    return {result["name"]: result for result in results}


def first_digits(number: int) -> Tensor:
    (batch,) = evaluation_batches(load_split(DIGITS, "test"), batch_size=10_000)
    return (batch["image"][:number] + 1) / 2


def test_a_distance_of_few_examples_has_a_note(
    pipeline: VAEPipeline, extractor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, enough = (evaluate(pipeline, "fid", "kid", "swd", extractor=name) for name in ("pixels", extractor))
    assert few["FID"]["note"].startswith("60 examples for 64 features: too few for a covariance")
    assert few["KID"]["note"] == "few examples: subsets of 30, not 1000, scatter"
    assert not any("note" in result for result in (few["SWD"], few["KID std"], *enough.values()))
    pipeline.save_pretrained(tmp_path / "model")
    arguments = ["evaluate", str(tmp_path / "model"), "--dataset_name", "builtin:digits", "--num_samples", "60"]
    assert main([*arguments, "--metrics", "fid", "--extractor", "pixels"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FID")]
    assert row.endswith(few["FID"]["note"])
    (result,) = json.loads((tmp_path / "model" / "metrics.json").read_text())["evaluation"]
    assert result["note"] == few["FID"]["note"] and "note" not in result["settings"]
    assert f"; {result['note']} |" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_every_metric_says_how_it_was_made(pipeline: VAEPipeline, extractor: str) -> None:
    of_others = {"accuracy", "label_auroc", "miou", "depth", "violations", "constraints", "mig"}
    served = [metric for metric in METRICS if metric not in of_others | {"lpips", "hog"}]
    data = DataArguments(dataset_name="builtin:digits", exclude_label="3")
    results = evaluate(pipeline, *served, extractor=extractor, data=data)
    assert set(results) == {
        "FID", "KID", "KID std", "precision", "recall", "SWD", "W1", "inception score", "label entropy",
        "MSE", "PSNR", "SSIM", "Parzen log-likelihood", "Parzen bandwidth", "negative log-likelihood",
        "bits per dimension", "LBP radius 1", "LBP radius 2", "AUROC", "feature distance",
        "active units", "KL", "KL of the codes' Gaussian to the prior", "prior draws in holes",
        "prior draws in holes, codes from the prior", "KL of dimension 0", "KL of dimension 1", "KL of dimension 2",
    }  # fmt: skip
    for name, result in results.items():
        assert np.isfinite(result["value"]), name
        assert set(result["settings"]) >= SETTINGS, name
        about = {"num_samples": 60, "num_real": 60, "seed": 3, "dataset": "builtin:digits", "split": "test"}
        assert about.items() <= result["settings"].items(), name
    assert results["FID"]["settings"]["extractor"] == "judge"
    assert len(results["FID"]["settings"]["weights_sha256"]) == 64
    assert results["MSE"]["settings"]["extractor"] is None
    json.dumps(results)


@pytest.mark.parametrize("metric", ["mse", "nll", "swd"])
def test_figures_that_are_no_numbers_are_refused(pipeline: VAEPipeline, metric: str) -> None:
    with torch.no_grad():
        pipeline.vae.log_scale.fill_(torch.nan)
    evaluate(pipeline, "mse")
    with refused("log_likelihood gives NaN"):
        evaluate(pipeline, "nll")
    with torch.no_grad():
        for parameter in pipeline.vae.parameters():
            parameter.fill_(torch.nan)
    with refused("NaN or infinite|no finite number"):
        evaluate(pipeline, metric, extractor="pixels")


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_fid_is_that_of_the_features(pipeline: VAEPipeline, extractor: str) -> None:
    classifier = Classifier.from_pretrained(extractor)
    generator = torch.Generator().manual_seed(3)
    made = [pipeline(batch_size=n, generator=generator, output_type="pt").images for n in (25, 25, 10)]
    with torch.no_grad():
        a, b = (classifier(2 * x - 1).features.double().numpy() for x in (first_digits(60), torch.cat(made)))
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    expected = (
        np.square(a.mean(0) - b.mean(0)).sum() + np.cov(a, rowvar=False).trace() + np.cov(b, rowvar=False).trace()
    )
    found = evaluate(pipeline, "fid", extractor=extractor)["FID"]["value"]
    assert found == pytest.approx(expected - 2 * root.trace(), rel=1e-4)


def test_reconstruction_and_likelihood(pipeline: VAEPipeline) -> None:
    images = first_digits(60)
    decoded = pipeline.reconstruct(images, output_type="pt").images
    results = evaluate(pipeline, "mse", "nll")
    assert results["MSE"]["value"] == pytest.approx((images - decoded).square().mean().item(), rel=1e-5)
    nll = -pipeline.log_likelihood(images, generator=torch.Generator().manual_seed(0)).mean().item()
    assert results["negative log-likelihood"]["value"] == pytest.approx(nll, rel=0.05)


def test_bits_per_dimension_are_the_likelihoods(pipeline: VAEPipeline) -> None:
    results = evaluate(pipeline, "nll", "bpd")
    nll, bits = results["negative log-likelihood"], results["bits per dimension"]
    assert bits["value"] == pytest.approx(nll["value"] / 64 / math.log(2), rel=1e-9)
    assert bits["settings"] == nll["settings"]


def test_a_likelihood_of_fewer_steps() -> None:
    torch.manual_seed(0)
    ddpm = DDPMPipeline(*tiny_denoiser((1, 8, 8), steps=9), value_scale=16.0)
    ddpm.set_progress_bar_config(disable=True)
    bits = {steps: evaluate(ddpm, "bpd", sampling={"num_inference_steps": steps}) for steps in (3, 9)}
    values = {steps: found["bits per dimension"]["value"] for steps, found in bits.items()}
    assert values[3] > values[9]
    assert bits[3]["bits per dimension"]["settings"]["num_inference_steps"] == 3


def test_a_number_does_not_depend_on_the_other_metrics(pipeline: VAEPipeline, extractor: str) -> None:
    alone = evaluate(pipeline, "swd", extractor=extractor)["SWD"]
    among = evaluate(pipeline, "kid", "nll", "parzen", "swd", extractor=extractor)["SWD"]
    assert alone == among
    other_seed = evaluate(pipeline, "swd", extractor=extractor, seed=4)["SWD"]
    assert other_seed["value"] != alone["value"]


def test_a_split_smaller_than_the_request_is_used_whole(pipeline: VAEPipeline) -> None:
    number = len(first_digits(10_000))
    metrics = ("swd", "wasserstein", "mse")
    settings = evaluate(pipeline, *metrics, extractor="pixels", num_samples=number + 40, batch_size=100)
    assert settings["W1"]["settings"]["subset_size"] == number
    assert settings["SWD"]["settings"]["num_real"] == number
    assert settings["SWD"]["settings"]["num_samples"] == number + 40
    assert settings["MSE"]["settings"]["num_samples"] == number


def test_vectors(pipeline: VAEPipeline) -> None:
    torch.manual_seed(0)
    flat = VAEPipeline(
        VAE(in_channels=2, sample_size=None, latent_dim=2, architecture="mlp", hidden_dims=(8,)).eval(),
        value_scale=1.0,
    )
    toy = DataArguments(dataset_name="builtin:toy2d")
    results = evaluate(flat, "swd", "fid", "mse", "parzen", data=toy, extractor="pixels")
    (batch,) = evaluation_batches(load_split(toy, "test"), batch_size=10**6)
    points = batch["image"][:60]
    decoded = flat.reconstruct(points, output_type="pt").images
    assert results["MSE"]["value"] == pytest.approx((points - decoded).square().mean().item(), rel=1e-5)
    with pytest.raises(UserError, match="psnr is for images, and the data are vectors"):
        evaluate(flat, "psnr", data=toy)


@pytest.mark.parametrize(
    ("metrics", "options", "message"),
    [
        (["swd", "mse"], {"extractor": "pixels"}, "mse needs reconstructions, and SamplerThatMustNotRun has no"),
        (["swd", "nll"], {"extractor": "pixels"}, "nll needs likelihoods"),
        (["swd", "fidd"], {"extractor": "pixels"}, "unknown metric 'fidd'"),
        ([], {}, "no metric asked for"),
        (["parzen", "fid"], {}, "fid needs --extractor"),
        (["constraints"], {}, "constraints needs known pixels, and SamplerThatMustNotRun takes none"),
        (["swd"], {"extractor": "pixels", "known_pixels": 0.1}, "--known_pixels: a SamplerThatMustNotRun takes no"),
        (["lbp", "hog"], {}, r"HOG needs images of 16x16 pixels or more, got \(1, 1, 8, 8\)"),
        (["inception_score"], {"extractor": "pixels"}, "needs class probabilities, and extractor pixels gives none"),
        (["parzen"], {"num_samples": 3}, "num_samples must be at least 4"),
        (["parzen"], {"batch_size": 0}, "batch_size must be at least 1"),
        (
            ["parzen"],
            {"data": DataArguments(dataset_name="builtin:toy2d")},
            r"shape \(1, 8, 8\), the data have \(2,\)",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_before_sampling(
    metrics: list[str], options: dict[str, Any], message: str
) -> None:
    with refused(message):
        evaluate(SamplerThatMustNotRun(), *metrics, **options)


def test_an_autoencoder_reconstructs_and_does_not_sample() -> None:
    torch.manual_seed(0)
    pipeline = AutoencoderPipeline(Autoencoder(sample_size=8, latent_dim=3, architecture="linear").eval())
    assert evaluate(pipeline, "ssim")["SSIM"]["value"] < 1
    with pytest.raises(UserError, match="fid needs samples, and AutoencoderPipeline cannot sample"):
        evaluate(pipeline, "fid", extractor="pixels")


def test_textures_of_samples_are_compared_with_real_ones() -> None:
    torch.manual_seed(0)
    pipeline = VAEPipeline(VAE(sample_size=16, latent_dim=3, block_out_channels=(4, 8)).eval())
    data = DataArguments(dataset_name="builtin:digits", resolution=16)
    generator = torch.Generator().manual_seed(3)
    made = torch.cat([pipeline(batch_size=n, generator=generator, output_type="pt").images for n in (25, 25, 10)])
    (batch,) = evaluation_batches(load_split(data, "test"), batch_size=10_000)
    images = (batch["image"][:60] + 1) / 2
    results = evaluate(pipeline, "hog", "lbp", data=data)
    assert {name: result["value"] for name, result in results.items()} == {
        "HOG": pytest.approx(hog_distance(images, made)),
        "LBP radius 1": pytest.approx(lbp_distance(images, made, 1)),
        "LBP radius 2": pytest.approx(lbp_distance(images, made, 2)),
    }
    assert [result["settings"].get("radius") for result in results.values()] == [None, 1, 2]
    assert all(result["settings"]["num_samples"] == 60 for result in results.values())


def entry(name: str, value: float, **settings: object) -> dict[str, Any]:
    return {"name": name, "value": value, "settings": settings}


def test_results_are_merged_into_metrics_json(tmp_path: Path) -> None:
    write_evaluation(tmp_path, [entry("FID", 1.0, seed=0, split="test")])
    path = tmp_path / "metrics.json"
    content = json.loads(path.read_text())
    assert content == {"evaluation": [entry("FID", 1.0, seed=0, split="test")]}

    path.write_text(json.dumps({"family": "vae", **content}))
    write_evaluation(tmp_path, [entry("FID", 2.0, split="test", seed=0), entry("FID", 3.0, seed=1, split="test")])
    content = json.loads(path.read_text())
    assert content["family"] == "vae"
    assert [(item["value"], item["settings"]["seed"]) for item in content["evaluation"]] == [(2.0, 0), (3.0, 1)]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_metrics_json_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json"):
        write_evaluation(tmp_path, [])
    assert (tmp_path / "metrics.json").read_text() == "{"
    with pytest.raises(UserError, match="cannot be written"):
        write_evaluation(tmp_path / "nowhere", [])


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write_evaluation(tmp_path, [entry("FID", 1.0)])
    before = (tmp_path / "metrics.json").read_text()
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            write_evaluation(tmp_path, [entry("FID", 2.0)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"metrics.json": before}
