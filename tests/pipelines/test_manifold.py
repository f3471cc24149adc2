"""Grids of percentiles of two latent dimensions, of a prior's and of codes'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from hf_genmodels import VAE, AAEPipeline, VAEPipeline
from tests.families import TINY
from tests.testing_utils.networks import tiny_encoder, tiny_generator
from tests.testing_utils.pipelines import random_images, tiny_pipeline
from tests.testing_utils.refusals import refused

WITH_ENCODER = sorted(name for name in TINY if hasattr(tiny_pipeline(name), "manifold"))
SIXTHS = [1 / 6, 1 / 2, 5 / 6]


def shown(pipeline, rows: list[tuple[float, ...]]) -> torch.Tensor:
    with torch.no_grad():
        sample = pipeline.network_decode(torch.tensor(rows).to(pipeline.dtype))
    return pipeline.finish(sample, "pt", False)[0]


def test_every_pipeline_with_a_decoder_of_codes_has_one() -> None:
    assert {"AutoencoderPipeline", "VAEPipeline", "AVAEPipeline", "BiGANPipeline", "AAEPipeline"} < set(WITH_ENCODER)


def test_manifold_is_the_grid_of_normal_quantiles() -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    grid = pipeline.manifold(num_rows=3, output_type="pt").images
    left, middle, right = norm.ppf(SIXTHS)
    rows = [(x, y) for y in (right, middle, left) for x in (left, middle, right)]
    torch.testing.assert_close(grid, pipeline.decode(torch.tensor(rows).float(), output_type="pt").images)
    assert len(pipeline.manifold(num_rows=2).images) == 4


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_manifold_of_the_percentiles_of_codes(name: str) -> None:
    pipeline = tiny_pipeline(name)
    images = random_images(pipeline.sample_shape, 7)
    grid = pipeline.manifold(3, "pt", images, dimensions=(1, 0)).images
    codes = pipeline.encode(images).double().numpy()
    levels = np.quantile(codes, SIXTHS, axis=0)
    rows = []
    for upwards in reversed(levels[:, 0]):
        for to_the_right in levels[:, 1]:
            row = np.median(codes, axis=0)
            row[1], row[0] = to_the_right, upwards
            rows.append(tuple(row))
    torch.testing.assert_close(grid, shown(pipeline, rows))


def test_of_more_than_two_dimensions_it_is_said_which() -> None:
    torch.manual_seed(0)
    pipeline = VAEPipeline(VAE(sample_size=8, latent_dim=3, block_out_channels=(4,)).eval())
    with refused("manifold shows 2 dimensions of the latent, this model's has 3; say which, such as dimensions="):
        pipeline.manifold()
    grid = pipeline.manifold(1, "pt", dimensions=[2, 0]).images
    torch.testing.assert_close(grid, shown(pipeline, [(0.0, 0.0, 0.0)]))
    low, high = norm.ppf([0.25, 0.75])
    corners = [(high, 0.0, low), (high, 0.0, high), (low, 0.0, low), (low, 0.0, high)]
    torch.testing.assert_close(pipeline.manifold(2, "pt", dimensions=[2, 0]).images, shown(pipeline, corners))


def test_without_a_normal_prior_it_needs_images() -> None:
    with refused("the codes of this AutoencoderPipeline have no normal prior: give images"):
        tiny_pipeline("AutoencoderPipeline").manifold(dimensions=(0, 1))
    mixture = AAEPipeline(tiny_encoder((1, 8, 8)), tiny_generator((1, 8, 8)), prior="mixture")
    with refused("the codes of this AAEPipeline have no normal prior: give images"):
        mixture.manifold(dimensions=(0, 1))
