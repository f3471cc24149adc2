"""Evaluation of pipelines that translate: what is compared with what, against computations written out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from hf_genmodels import (
    CycleGANPipeline,
    DataArguments,
    Pix2PixPipeline,
    PolarimetricPipeline,
    ResNetTranslator,
    UNetTranslator,
)
from hf_genmodels.data import Layout, evaluation_batches, load_split
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.metrics.record import write_evaluation
from tests.testing_utils.refusals import refused
from tests.testing_utils.translators import shaken

EDGES = DataArguments(dataset_name="builtin:edges", resolution=16)
SCENES = DataArguments(dataset_name="builtin:polarimetric", resolution=16)
COUNT = 20


@pytest.fixture
def pix2pix() -> Pix2PixPipeline:
    torch.manual_seed(0)
    return Pix2PixPipeline(shaken(UNetTranslator(1, 3, 16, width=2, num_downs=2)))


@pytest.fixture
def cyclegan() -> CycleGANPipeline:
    torch.manual_seed(0)
    return CycleGANPipeline(shaken(ResNetTranslator(1, 3, 16, width=2, num_blocks=1)))


@pytest.fixture
def polarimetric() -> PolarimetricPipeline:
    torch.manual_seed(0)
    return PolarimetricPipeline(shaken(ResNetTranslator(3, 4, 16, width=2, num_blocks=1)))


def evaluate(pipeline, *metrics, data=EDGES, **options) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "split": "test", "num_samples": COUNT, "batch_size": 8, "extractor": None, "seed": 3, "progress": False,
    }  # fmt: skip
    results = evaluate_pipeline(pipeline, data, metrics=metrics, **settings | options)
    return {result["name"]: result for result in results}


def first_pairs(data, number=COUNT) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = evaluation_batches(load_split(data, "test", Layout("pair")), batch_size=10_000)
    source, target = ((batch[name][:number] + 1) / 2 for name in ("conditioning_image", "target_image"))
    return source, target


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Of one channel: a Gaussian window of 11 x 11 at every pixel of the mirrored image."""
    place = np.arange(-5, 6)
    line = np.exp(-(place**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    a, b = (np.pad(image, 5, mode="reflect") for image in (one, other))
    values = []
    for row in range(one.shape[0]):
        for column in range(one.shape[1]):
            x, y = (image[row : row + 11, column : column + 11] for image in (a, b))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            covariance = (window * (x - mx) * (y - my)).sum()
            structure = (2 * covariance + 0.03**2) / (vx + vy + 0.03**2)
            values.append((2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2) * structure)
    return float(np.mean(values))


def slow_frechet(a: np.ndarray, b: np.ndarray) -> float:
    """With centred points X and Y as rows, the trace of the root of X'X Y'Y is the sum of singular values of X Y'."""
    x, y = ((points - points.mean(0)) / np.sqrt(len(points) - 1) for points in (a, b))
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + np.square(x).sum() + np.square(y).sum() - 2 * root


# figures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pix2pix", "cyclegan"])
def test_paired_figures_are_of_translations_and_their_targets(kind, request):
    pipeline = request.getfixturevalue(kind)
    source, target = first_pairs(EDGES)
    made = pipeline(image=source, output_type="pt").images.double().numpy()
    target = target.double().numpy()
    errors = [np.mean((one - other) ** 2) for one, other in zip(made, target, strict=True)]
    results = evaluate(pipeline, "mse", "psnr", "ssim")
    assert set(results) == {"MSE", "PSNR", "SSIM"}
    assert results["MSE"]["value"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert results["PSNR"]["value"] == pytest.approx(np.mean([-10 * np.log10(error) for error in errors]), rel=1e-5)
    similarity = [slow_ssim(a, b) for x, y in zip(made, target, strict=True) for a, b in zip(x, y, strict=True)]
    assert results["SSIM"]["value"] == pytest.approx(np.mean(similarity), rel=1e-4)
    for result in results.values():
        about = {"num_samples": COUNT, "num_real": COUNT, "dataset": "builtin:edges", "split": "test", "seed": 3}
        assert about.items() <= result["settings"].items()
        assert result["settings"]["extractor"] is None
    json.dumps(results)


def test_distributions_are_compared_on_the_side_of_the_targets(pix2pix):
    data = DataArguments(dataset_name="builtin:edges", resolution=8)
    source, target = first_pairs(data, 60)
    a, b = (x.double().numpy().reshape(60, -1) for x in (target, pix2pix(image=source, output_type="pt").images))
    expected = slow_frechet(a, b)
    found = evaluate(pix2pix, "fid", "swd", extractor="pixels", num_samples=60, data=data)
    assert found["FID"]["value"] == pytest.approx(expected, rel=1e-3)
    assert found["FID"]["settings"]["extractor"] == "pixels"
    assert found["FID"]["settings"]["num_samples"] == found["FID"]["settings"]["num_real"] == 60
    assert found["SWD"]["value"] > 0


@pytest.mark.parametrize(("count", "batch_size"), [(4, 3), (7, 7), (9, 64)])
def test_no_more_examples_than_asked_for(pix2pix, count, batch_size):
    source, target = first_pairs(EDGES, count)
    expected = (pix2pix(image=source, output_type="pt").images - target).square().mean().item()
    results = evaluate(pix2pix, "mse", "swd", extractor="pixels", num_samples=count, batch_size=batch_size)
    assert results["MSE"]["value"] == pytest.approx(expected, rel=1e-5)
    for result in results.values():
        assert result["settings"]["num_samples"] == result["settings"]["num_real"] == count


def test_a_split_smaller_than_the_request_is_used_whole(pix2pix):
    source, _ = first_pairs(EDGES, 10_000)
    result = evaluate(pix2pix, "mse", num_samples=len(source) + 40, batch_size=64)["MSE"]
    assert result["settings"]["num_samples"] == result["settings"]["num_real"] == len(source)


# violations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", [None, True])
def test_violations_are_means_deviations_and_medians_over_images(polarimetric, project):
    source, target = first_pairs(SCENES)
    made = polarimetric(image=source, project=bool(project), output_type="np").images.astype(np.float64)
    s0, s1, s2 = made[..., 0] + made[..., 2], made[..., 0] - made[..., 2], made[..., 1] - made[..., 3]
    other = np.stack([s0 + s1, s0 + s2, s0 - s1, s0 - s2], -1) / 2
    size = [np.sqrt(np.square(x).sum((1, 2, 3))) for x in (made - other, made, other)]
    values = {"C1": size[0] / (size[1] + size[2]), "C2": (np.hypot(s1, s2) - s0 > 1e-6).mean((1, 2))}
    results = evaluate(polarimetric, "violations", "psnr", data=SCENES, sampling={"project": project})
    assert set(results) == {"PSNR"} | {f"C{i}{figure}" for i in (1, 2, 3) for figure in ("", " std", " median")}
    for name, of_images in values.items():
        assert results[name]["value"] == pytest.approx(of_images.mean(), rel=1e-4, abs=1e-6)
        assert results[f"{name} std"]["value"] == pytest.approx(of_images.std(), rel=1e-4, abs=1e-6)
        assert results[f"{name} median"]["value"] == pytest.approx(np.median(of_images), rel=1e-4, abs=1e-6)
    assert (values["C1"].mean() < 1e-6 and results["C2"]["value"] == 0) if project else values["C2"].mean() > 0.01
    assert results["C3"]["value"] == 0
    errors = np.square(made - target.double().permute(0, 2, 3, 1).numpy()).mean((1, 2, 3))
    assert results["PSNR"]["value"] == pytest.approx(np.mean(-10 * np.log10(errors)), rel=1e-4)
    for name in ("C1", "C2", "C3", "C1 median"):
        settings = results[name]["settings"]
        assert settings["num_samples"] == settings["num_real"] == COUNT
        assert settings.get("project") == project


def test_projected_figures_stand_beside_the_others(polarimetric, tmp_path):
    for sampling in ({}, {"project": True}):
        results = evaluate(polarimetric, "violations", "psnr", data=SCENES, sampling=sampling)
        write_evaluation(tmp_path, list(results.values()))
    written = json.loads((tmp_path / "metrics.json").read_text())["evaluation"]
    for name in ("C2", "PSNR"):
        assert [entry["settings"].get("project") for entry in written if entry["name"] == name] == [None, True]


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "options", "message"),
    [
        (["violations"], {}, "violations needs polarimetric images, and Pix2PixPipeline makes none"),
        (["nll"], {}, "nll needs likelihoods, and Pix2PixPipeline has no log_likelihood"),
        (["fid"], {}, "fid needs --extractor"),
        (["mse"], {"sampling": {"project": True}}, "--project: a Pix2PixPipeline has no such option; leave it out"),
        (["mse"], {"num_samples": 3}, "num_samples must be at least 4, got 3"),
        (["mse"], {"data": DataArguments(dataset_name="builtin:digits")}, "conditioning_image"),
        (["mse"], {"data": SCENES}, r"the network takes images of shape \(1, 16, 16\), got \(3, 16, 16\)"),
        (
            ["mse"],
            {"data": DataArguments(dataset_name="builtin:edges", resolution=18)},
            r"the image is 18x18 .* takes multiples of 4: .* \(in a command: --resolution\)",
        ),
    ],
)
def test_mistakes_are_one_line(pix2pix, metrics, options, message):
    with refused(message):
        evaluate(pix2pix, *metrics, **options)
