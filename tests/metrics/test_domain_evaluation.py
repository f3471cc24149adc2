"""Evaluation of translators of two data sets whose images do not belong together, and of either direction."""

from __future__ import annotations

import json
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import (
    CycleGANPipeline,
    DataArguments,
    Pix2PixPipeline,
    PolarimetricPipeline,
    ResNetTranslator,
    UserError,
)
from hf_genmodels.data import Layout, evaluation_batches, load_split
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.metrics.record import write_evaluation
from tests.testing_utils.translators import shaken

SIZES = {"a": 12, "few": 3, "many": 30}
CHANNELS = {"a": 1, "few": 3, "many": 3}


def translator(in_channels: int, out_channels: int) -> Any:
    return shaken(ResNetTranslator(in_channels, out_channels, 16, width=2, num_blocks=1))


@pytest.fixture
def cyclegan() -> CycleGANPipeline:
    torch.manual_seed(0)
    return CycleGANPipeline(translator(1, 3), translator(3, 1))


@pytest.fixture
def images(tmp_path) -> dict[str, np.ndarray]:
    """Twelve grey images of domain A, three and thirty coloured ones of domain B, and their folders."""
    generator = np.random.default_rng(0)
    pixels = {}
    for name, count in SIZES.items():
        pixels[name] = generator.integers(256, size=(count, 16, 16, CHANNELS[name]), dtype=np.uint8)
        (tmp_path / name / "test").mkdir(parents=True)
        for index, image in enumerate(pixels[name]):
            Image.fromarray(image.squeeze()).save(tmp_path / name / "test" / f"{index:02}.png")
    return pixels


def evaluate(pipeline, *metrics, data, **options) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "split": "test", "num_samples": 50, "batch_size": 5, "extractor": "pixels", "seed": 3, "progress": False,
    }  # fmt: skip
    results = evaluate_pipeline(pipeline, data, metrics=metrics, **settings | options)
    return {result["name"]: result for result in results}


def folders(root, b: str) -> DataArguments:
    return DataArguments(train_data_dir=str(root / "a"), train_data_dir_b=str(root / b))


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def slow_frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """With centred points X and Y as rows, the trace of the root of X'X Y'Y is the sum of singular values of X Y'."""
    a, b = (points.double().numpy().reshape(len(points), -1) for points in (a, b))
    x, y = ((points - points.mean(0)) / np.sqrt(len(points) - 1) for points in (a, b))
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + np.square(x).sum() + np.square(y).sum() - 2 * root


@pytest.mark.parametrize(("b", "limit"), [("few", 50), ("many", 50), ("many", 10)])
def test_the_real_side_is_the_second_set_alone(cyclegan, images, tmp_path, b, limit):
    real, given = tensor(images[b])[:limit], tensor(images["a"])[:limit]
    made = cyclegan(given, output_type="pt").images
    found = evaluate(cyclegan, "fid", "swd", data=folders(tmp_path, b), num_samples=limit)
    assert found["FID"]["value"] == pytest.approx(slow_frechet(real, made), rel=1e-3)
    for result in found.values():
        assert result["settings"]["num_real"] == min(SIZES[b], limit) == len(real)
        assert result["settings"]["num_samples"] == min(12, limit)


@pytest.mark.parametrize("b", ["few", "many"])
def test_the_other_direction_exchanges_the_sides(cyclegan, images, tmp_path, b):
    made = cyclegan(tensor(images[b]), direction="b_to_a", output_type="pt").images
    data = folders(tmp_path, b)
    result = evaluate(cyclegan, "fid", data=data, sampling={"direction": "b_to_a"})["FID"]
    assert result["value"] == pytest.approx(slow_frechet(tensor(images["a"]), made), rel=1e-3)
    assert (result["settings"]["num_real"], result["settings"]["num_samples"]) == (12, SIZES[b])
    assert result["settings"]["direction"] == "b_to_a"


def test_the_other_direction_of_pairs(cyclegan):
    data = DataArguments(dataset_name="builtin:edges", resolution=16)
    (batch,) = evaluation_batches(load_split(data, "test", Layout("pair")), batch_size=10_000)
    a, b = ((batch[name][:6] + 1) / 2 for name in ("conditioning_image", "target_image"))
    expected = (cyclegan(b, direction="b_to_a", output_type="pt").images - a).square().mean().item()
    result = evaluate(cyclegan, "mse", data=data, num_samples=6, sampling={"direction": "b_to_a"})["MSE"]
    assert result["value"] == pytest.approx(expected, rel=1e-5)
    about = {"direction": "b_to_a", "resolution": 16, "dataset": "builtin:edges"}
    assert about.items() <= result["settings"].items() and "dataset_b" not in result["settings"]


def test_one_direction_is_refused_where_there_is_no_translator(images, tmp_path):
    pipeline = CycleGANPipeline(translator(1, 3))
    with pytest.raises(UserError, match="no generator_ba"):
        evaluate(pipeline, "swd", data=folders(tmp_path, "few"), sampling={"direction": "b_to_a"})


@pytest.mark.parametrize("metric", ["psnr", "ssim", "mse"])
def test_images_that_do_not_belong_together_are_not_compared(cyclegan, images, tmp_path, metric):
    with pytest.raises(UserError) as error:
        evaluate(cyclegan, "swd", metric, data=folders(tmp_path, "few"))
    assert str(error.value) == f"{metric} needs pairs, two columns of one data set: leave out the second data set"


# settings ------------------------------------------------------------------------------------------------------------


def test_figures_of_other_images_stand_beside_each_other(cyclegan, images, tmp_path):
    for b, sampling in (("few", {}), ("many", {}), ("few", {"direction": "b_to_a"}), ("few", {"direction": "a_to_b"})):
        write_evaluation(
            tmp_path, list(evaluate(cyclegan, "swd", data=folders(tmp_path, b), sampling=sampling).values())
        )
    written = json.loads((tmp_path / "metrics.json").read_text())["evaluation"]
    settings = [(entry["settings"]["dataset_b"], entry["settings"]["direction"]) for entry in written]
    assert settings == [("few", "a_to_b"), ("many", "a_to_b"), ("few", "b_to_a")]
    assert all(entry["settings"]["dataset"] == "a" for entry in written)


def test_columns_are_named_where_they_are_not_the_usual_ones():
    torch.manual_seed(0)
    pipeline = Pix2PixPipeline(translator(1, 1))
    data = {"dataset_name": "builtin:polarimetric", "dataset_config_name": "32", "resolution": 16}
    columns = {"conditioning_image_column": "intensity", "target_image_column": "depth"}
    settings = evaluate(pipeline, "mse", data=DataArguments(**data, **columns), num_samples=4)["MSE"]["settings"]
    assert columns.items() <= settings.items() and "direction" not in settings
    assert settings["dataset"] == "builtin:polarimetric (32)" and settings["resolution"] == 16
    usual = DataArguments(dataset_name="builtin:edges", resolution=16)
    settings = evaluate(Pix2PixPipeline(translator(1, 3)), "mse", data=usual, num_samples=4)["MSE"]["settings"]
    assert not [name for name in settings if name.endswith(("column", "columns")) or name == "dataset_b"]


# polarimetric --------------------------------------------------------------------------------------------------------


@pytest.fixture
def polarimetric_sets(tmp_path) -> DataArguments:
    """Nine coloured images, and five images of four columns that have nothing to do with them."""
    generator = np.random.default_rng(1)
    (tmp_path / "rgb" / "test").mkdir(parents=True)
    (tmp_path / "angles").mkdir()
    for index in range(9):
        pixels = generator.integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "rgb" / "test" / f"{index}.png")
    names = ["i0", "i45", "i90", "i135"]
    pixels = {name: list(generator.integers(256, size=(5, 16, 16), dtype=np.uint8)) for name in names}
    columns = {name: [Image.fromarray(image) for image in column] for name, column in pixels.items()}
    features = datasets.Features({name: datasets.Image() for name in names})
    datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / "angles" / "test-00000-of-00001.parquet")
    return DataArguments(
        train_data_dir=str(tmp_path / "rgb"), dataset_name_b=str(tmp_path / "angles"), image_columns=names
    )


def test_violations_of_unpaired_translations(polarimetric_sets):
    torch.manual_seed(0)
    pipeline = PolarimetricPipeline(translator(3, 4))
    results = evaluate(pipeline, "violations", "fid", data=polarimetric_sets, batch_size=4)
    rgb = [
        np.asarray(Image.open(f"{polarimetric_sets.train_data_dir}/test/{index}.png")).astype(np.uint8)
        for index in range(9)
    ]
    violations = pipeline(tensor(np.stack(rgb)), output_type="pt").violations
    for name, of_images in violations.items():
        assert results[name]["value"] == pytest.approx(of_images.mean().item(), rel=1e-4, abs=1e-7)
        assert results[f"{name} std"]["value"] == pytest.approx(of_images.std(correction=0).item(), rel=1e-4, abs=1e-7)
    assert violations["C1"].mean() > 0.01
    for result in results.values():
        settings = result["settings"]
        assert (settings["num_real"], settings["num_samples"]) == (5, 9)
        assert settings["dataset_b"] == "angles" and settings["image_columns"] == ["i0", "i45", "i90", "i135"]
    with pytest.raises(UserError, match="psnr needs pairs, two columns of one data set"):
        evaluate(pipeline, "violations", "psnr", data=polarimetric_sets)


def test_one_set_of_polarimetric_images_holds_pairs():
    torch.manual_seed(0)
    pipeline = PolarimetricPipeline(translator(3, 4))
    data = DataArguments(dataset_name="builtin:polarimetric", dataset_config_name="32", resolution=16)
    results = evaluate(pipeline, "violations", "psnr", data=data, num_samples=4)
    assert results["PSNR"]["settings"]["num_real"] == results["C1"]["settings"]["num_samples"] == 4
