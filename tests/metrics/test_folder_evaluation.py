"""`hf-genmodels evaluate` of images that no model of ours has made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from hf_genmodels.cli import main
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.models.classifier import Classifier
from hf_genmodels.models.vae import VAE
from hf_genmodels.pipelines.vae import VAEPipeline

DIGITS = ["--dataset_name", "builtin:digits"]


def first_digits(number: int) -> Tensor:
    dataset = load_split(DataArguments(dataset_name="builtin:digits"), "test")
    return (next(evaluation_batches(dataset, batch_size=number))["image"] + 1) / 2


def write_images(folder: Path, images: Tensor) -> None:
    """In two sub-folders, by turns."""
    for index, image in enumerate(images):
        path = folder / str(index % 2) / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(path)


def test_a_folder_of_images_is_measured_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    Classifier(sample_size=8, block_out_channels=(4, 8), feature_dim=6).save_pretrained(tmp_path / "judge")
    images = torch.rand(70, 1, 8, 8)
    write_images(tmp_path / "mine", images)
    before = sorted((tmp_path / "mine").rglob("*"))
    options = ["--num_samples", "60", "--batch_size", "32", "--extractor", str(tmp_path / "judge")]
    command = ["evaluate", str(tmp_path / "mine"), *DIGITS, *options, "--metrics", "fid", "swd", "lbp"]
    assert main(command) == 0
    assert "written" not in capsys.readouterr().out and sorted((tmp_path / "mine").rglob("*")) == before
    out = tmp_path / "out" / "deep"
    assert main([*command, "--output_dir", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["metrics.json"]
    results = {result["name"]: result for result in json.loads((out / "metrics.json").read_text())["evaluation"]}
    assert set(results) == {"FID", "SWD", "LBP radius 1", "LBP radius 2"}
    settings = {"num_samples": 60, "num_real": 60, "images": "mine", "dataset": "builtin:digits", "split": "test"}
    assert settings.items() <= results["FID"]["settings"].items()
    judge = load_extractor(str(tmp_path / "judge"))
    order = sorted(range(70), key=lambda index: (index % 2, index))[:60]
    a, b = judge(first_digits(60)).features, judge((images * 255).round()[order] / 255).features
    assert results["FID"]["value"] == pytest.approx(frechet_distance_from_features(a, b), rel=1e-4)


def test_two_folders_of_images_are_compared_at_one_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = first_digits(24)
    write_images(tmp_path / "a", digits[:12])
    write_images(tmp_path / "b", digits.repeat_interleave(2, 2).repeat_interleave(2, 3))
    command = ["evaluate", str(tmp_path / "a"), "--train_data_dir", str(tmp_path / "b"), "--split", "train"]
    command += ["--metrics", "fid", "precision_recall", "--extractor", "pixels", "--output_dir", str(tmp_path / "out")]
    assert main(command) == 1
    assert "samples of shape (1, 8, 8), the data have (1, 16, 16)" in capsys.readouterr().err
    assert main([*command, "--resolution", "8"]) == 0
    settings = json.loads((tmp_path / "out" / "metrics.json").read_text())["evaluation"][0]["settings"]
    assert (settings["num_samples"], settings["num_real"], settings["resolution"]) == (12, 24, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "mse"], "mse needs reconstructions, and FolderOfImages has no reconstruct()"),
        (["--metrics", "nll"], "nll needs likelihoods"),
        (["--metrics", "lbp", "--truncation", "2"], "--truncation: a FolderOfImages has no such option"),
        (["--metrics", "lbp", "--known_pixels", "0.1"], "--known_pixels: a FolderOfImages takes no known pixels"),
        (["--metrics", "fid"], "fid needs --extractor"),
        (["--metrics", "lbp", "--output_dir", "{}/0/000.png"], "is a file; choose another folder"),
        (["--metrics", "swd", "--compile"], "--compile has no effect"),
    ],
)
def test_what_a_folder_of_images_does_not_serve(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, first_digits(5))
    options = [option.format(tmp_path) for option in options]
    assert main(["evaluate", str(tmp_path), *DIGITS, *options]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]


def test_what_sample_writes_can_be_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    VAEPipeline(VAE(sample_size=8, latent_dim=3, block_out_channels=(4, 8)).eval()).save_pretrained(tmp_path / "model")
    samples, out = tmp_path / "samples", tmp_path / "out"
    assert main(["sample", str(tmp_path / "model"), "--num_samples", "8", "--output_dir", str(samples)]) == 0
    command = ["evaluate", str(samples), *DIGITS, "--num_samples", "40", "--metrics", "swd", "--extractor", "pixels"]
    assert main([*command, "--output_dir", str(out)]) == 0
    (result,) = json.loads((out / "metrics.json").read_text())["evaluation"]
    assert (result["settings"]["num_samples"], result["settings"]["num_real"]) == (8, 40)
