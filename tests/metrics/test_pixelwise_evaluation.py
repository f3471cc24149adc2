"""Evaluation of images from a few known pixels: what keeps to them, and what is compared with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hf_genmodels import DataArguments, PixelwiseGenerator, PixelwisePipeline
from hf_genmodels.data import evaluation_batches, load_split
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.metrics.texture import lbp_distance
from tests.testing_utils.refusals import refused

DATA = DataArguments(dataset_name="builtin:digits")
COUNT = 22


class Listening(PixelwisePipeline):
    """Notes what its calls were given and gave."""

    def __call__(self, values, mask, *args, **options):
        output = super().__call__(values, mask, *args, **options)
        self.heard.append((values, mask, output.images))
        self.seeds.add(options["generator"].initial_seed())
        return output


@pytest.fixture
def images() -> torch.Tensor:
    (batch,) = evaluation_batches(load_split(DATA, "test"), batch_size=10_000)
    return (batch["image"] + 1) / 2


@pytest.fixture
def pipeline(images) -> Listening:
    torch.manual_seed(0)
    network = PixelwiseGenerator(images.shape[1], 8, latent_channels=1, width=2, num_residual_blocks=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    pipeline = Listening(network.eval())
    pipeline.heard, pipeline.seeds = [], set()
    return pipeline


def evaluate(pipeline, *metrics, **options) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "split": "test", "num_samples": COUNT, "batch_size": 8, "extractor": None, "seed": 3, "progress": False,
    }  # fmt: skip
    results = evaluate_pipeline(pipeline, DATA, metrics=metrics, **settings | options)
    return {result["name"]: result for result in results}


def heard(pipeline) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values, mask, made = (torch.cat(list(each)) for each in zip(*pipeline.heard, strict=True))
    return values, mask, made


@pytest.mark.parametrize(("given", "share", "known"), [(None, 0.005, 1), (0.1, 0.1, 6)])
def test_one_sample_keeps_to_known_pixels_of_each_image(pipeline, images, given, share, known):
    results = evaluate(pipeline, "constraints", known_pixels=given)
    values, mask, made = heard(pipeline)
    assert torch.equal(values, images[:COUNT]) and mask.flatten(1).sum(1).tolist() == [known] * COUNT
    assert len({tuple(each.flatten().nonzero().flatten().tolist()) for each in mask}) > COUNT // 2
    errors, shares = [], []
    for value, places, sample in zip(values.numpy(), mask.numpy() > 0, made.numpy(), strict=True):
        squared = np.square(2 * (sample - value)[:, places]).astype(np.float64)
        errors.append(squared.mean())
        shares.append((squared.sum(0) < 0.1 * len(squared)).mean())
    assert results["constraint MSE"]["value"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert results["constraints satisfied"]["value"] == pytest.approx(np.mean(shares), rel=1e-6)
    for result in results.values():
        about = {"known_pixels": share, "num_samples": COUNT, "num_real": COUNT, "dataset": "builtin:digits"}
        assert about.items() <= result["settings"].items() and result["settings"]["extractor"] is None


def test_samples_are_compared_with_the_images_as_sets(pipeline, images):
    results = evaluate(pipeline, "fid", "kid", "swd", "precision_recall", "lbp", extractor="pixels")
    made = heard(pipeline)[2]
    assert len(made) == COUNT
    a, b = (each.flatten(1).double().numpy() for each in (images[:COUNT], made))
    x, y = ((points - points.mean(0)) / np.sqrt(COUNT - 1) for points in (a, b))
    squared = np.square(a.mean(0) - b.mean(0)).sum() + np.square(x).sum() + np.square(y).sum()
    expected = squared - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum()
    assert results["FID"]["value"] == pytest.approx(expected, rel=1e-3)
    assert results["LBP radius 1"]["value"] == pytest.approx(lbp_distance(images[:COUNT], made))
    assert {"KID", "SWD", "precision", "recall", "LBP radius 2"} <= set(results)
    assert all(result["settings"]["known_pixels"] == 0.005 for result in results.values())


def test_the_seed_decides_about_pixels_and_noise(pipeline):
    figures = [evaluate(pipeline, "constraints", seed=seed)["constraint MSE"]["value"] for seed in (3, 3, 4)]
    assert figures[0] == figures[1] != figures[2]


def test_noise_does_not_tell_which_pixels_are_known(pipeline):
    evaluate(pipeline, "constraints")
    assert len(pipeline.seeds) == 1 and 3 not in pipeline.seeds


@pytest.mark.parametrize(
    ("metrics", "options", "message"),
    [
        (["mse"], {}, "mse needs reconstructions, and Listening has no reconstruct"),
        (["parzen"], {}, "parzen needs samples, and Listening cannot sample by itself"),
        (["constraints"], {"known_pixels": 0.0}, "the share of known pixels must be above 0 and at most 1, got 0.0"),
        (["constraints"], {"known_pixels": 1.5}, "the share of known pixels must be above 0 and at most 1, got 1.5"),
        (["fid"], {}, "fid needs --extractor"),
    ],
)
def test_what_cannot_be_served_is_refused(pipeline, metrics, options, message):
    with refused(message):
        evaluate(pipeline, *metrics, **options)
