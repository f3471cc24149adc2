"""Nearest training images, and codes as points of the plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import VAE, DCGANGenerator, GANPipeline, VAEPipeline
from hf_genmodels.cli import main
from hf_genmodels.inspection import codes_of, nearest, nearest_training_images, picture_of_holes, project
from hf_genmodels.metrics.extractors import Extracted, Extractor
from tests.testing_utils.refusals import refused


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_the_nearest_is_that_of_all_pairs_whatever_the_batches() -> None:
    queries, images = draw(5, 1, 4, 4), draw(23, 1, 4, 4, seed=1)
    images[7] = queries[2] + 1e-6  # closer than products of matrices tell in float32
    images[19] = queries[2] + 2e-6
    differences = queries.double().flatten(1)[:, None] - images.double().flatten(1)
    distances, index = differences.norm(dim=2).min(1)
    for size in (1, 10, 23):
        found = nearest(queries, images.split(size), lambda batch: batch.flatten(1))
        assert torch.equal(found.images, images[index])
        torch.testing.assert_close(found.distances, distances)
    assert index[2] == 7


def test_copies_lie_nearer_than_held_out_images() -> None:
    training, held_out = draw(40, 1, 8, 8), draw(6, 1, 8, 8, seed=1)
    means = Extractor("mean", network=lambda images: Extracted(images.mean((2, 3)), None))
    picture, figures = nearest_training_images(training[:6], held_out, lambda: iter(training.split(16)), means)
    values = {figure["name"]: figure["value"] for figure in figures}
    assert values["nearest training image, samples, pixels"] == 0
    assert values["nearest training image, held-out images, pixels"] > 1
    assert values["nearest training image, samples, features of mean"] == 0
    rows = np.asarray(picture.convert("L"))
    third = len(rows) // 3
    assert np.array_equal(rows[30:third], rows[third + 30 : 2 * third])  # the samples, and the same images again


def test_pca_spans_what_varies_most() -> None:
    plane, _ = torch.linalg.qr(draw(6, 2))
    codes = 5 * draw(50, 2, seed=1) @ torch.diag(torch.tensor([3.0, 1.0])) @ plane.T + 7 + 1e-3 * draw(50, 6, seed=2)
    points = project(codes, "pca")
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(codes, codes), atol=2e-2, rtol=1e-2)
    assert points[:, 0].var() > points[:, 1].var()
    assert torch.equal(project(codes[:, :2], "pca"), codes[:, :2])


def test_tsne_keeps_groups_apart() -> None:
    pytest.importorskip("sklearn")
    codes = torch.cat([0.1 * draw(20, 5), 0.1 * draw(20, 5, seed=1) + 3])
    points = project(codes, "tsne")
    assert torch.equal(points, project(codes, "tsne"))
    own = torch.cdist(points, points) + torch.diag(torch.full((40,), torch.inf))
    assert torch.equal(own.argmin(1) < 20, torch.arange(40) < 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    VAEPipeline(VAE(1, 8, latent_dim=3, block_out_channels=(4, 8)), value_scale=16).save_pretrained(folder)
    return folder


def test_the_command_writes_pictures_and_the_card(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", str(model), "--dataset_name", "builtin:digits", "--nearest", "3", "--codes", "pca"]
    assert main([*words, "--num_codes", "40", "--holes"]) == 0
    said = capsys.readouterr().out
    assert "nearest training image, samples, pixels: mean distance" in said
    for name in ("nearest_training_images", "codes", "codes_and_prior"):
        assert Image.open(model / "samples" / f"{name}-0.png").width > 100
        assert f"samples/{name}-0.png" in (model / "README.md").read_text()
    assert "nearest training image, held-out images, pixels" in (model / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "say what to look at: --nearest 12, --codes pca tsne"),
        (["--nearest", "0"], "--nearest must be at least 1, got 0"),
        (["--nearest", "2", "--resolution", "4"], "choose the data set or --resolution it was trained with"),
        (["--codes", "pca", "--num_codes", "3"], "--num_codes must be at least 4, got 3"),
    ],
)
def test_what_cannot_be_shown(model: Path, words: list[str], match: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--dataset_name", "builtin:digits", *words]) == 1
    assert match in capsys.readouterr().err


def test_codes_need_an_encoder_and_a_plane(gan: GANPipeline) -> None:
    with refused("a GANPipeline has no encoder"):
        codes_of(gan, [])
    with refused("a GANPipeline has no encoder with a prior over its codes"):
        picture_of_holes(gan, draw(9, 1), torch.Generator())
    with refused("no plane to show them in"):
        project(draw(9, 1), "pca")
    with refused("t-SNE of 5001 codes takes too long"):
        project(torch.zeros(5001, 3), "tsne")


@pytest.fixture
def gan() -> GANPipeline:
    return GANPipeline(DCGANGenerator(latent_dim=2, out_channels=1, sample_size=8, width=2))
