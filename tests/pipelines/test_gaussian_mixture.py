"""Pipeline of the Gaussian mixture: what every pipeline does, and its own methods."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from hf_genmodels import GaussianMixtureModel, GaussianMixturePipeline
from tests.testing_utils.pipelines import ImageInputTesterMixin, PipelineTesterMixin, SamplingTesterMixin

WEIGHTS = torch.tensor([0.25, 0.75], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
COVARIANCES = torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.5, -0.2], [-0.2, 0.4]]], dtype=torch.float64)


class TestGaussianMixturePipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = GaussianMixturePipeline
    latent_shape = (65,)

    def read(self, pipeline, images):
        return pipeline.responsibilities(images)


@pytest.fixture
def pipe() -> GaussianMixturePipeline:
    model = GaussianMixtureModel(2, None, 2)
    model.set_components(WEIGHTS, MEANS, COVARIANCES)
    return GaussianMixturePipeline(model, value_scale=1.0)


def test_likelihood_of_vectors(pipe):
    vectors = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    exact = MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(MEANS, COVARIANCES)).log_prob(vectors.double())
    torch.testing.assert_close(pipe.log_likelihood(vectors).double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pipe.bits_per_dim(vectors).double(), -exact / (2 * math.log(2)), rtol=1e-5, atol=1e-5)


def test_samples_have_the_moments_of_the_mixture(pipe):
    count = 40_000
    points = pipe(batch_size=count, generator=torch.Generator().manual_seed(0), output_type="pt").images.double()
    mean = WEIGHTS @ MEANS
    spread = (MEANS - mean).T @ ((MEANS - mean) * WEIGHTS[:, None])
    covariance = torch.einsum("c,cij->ij", WEIGHTS, COVARIANCES) + spread
    largest = float(covariance.diagonal().max())
    torch.testing.assert_close(points.mean(0), mean, rtol=0, atol=5 * (largest / count) ** 0.5)
    torch.testing.assert_close(points.T.cov(), covariance, rtol=0, atol=5 * largest * (2 / count) ** 0.5)


def test_clusters(pipe):
    probabilities = pipe.responsibilities(MEANS.float())
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
    joint = WEIGHTS * MultivariateNormal(MEANS, COVARIANCES).log_prob(MEANS[:, None]).exp()
    torch.testing.assert_close(probabilities.double(), joint / joint.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)
    assert pipe.cluster(MEANS.float()).tolist() == [0, 1]


def test_clusters_of_images_are_those_of_the_middles_of_their_levels():
    model = GaussianMixtureModel(1, 1, 2, num_levels=3)
    means = torch.tensor([[-1 / 3], [1 / 3]], dtype=torch.float64)  # the middles of levels 0 and 2
    model.set_components(WEIGHTS, means, torch.full((2, 1, 1), 0.04, dtype=torch.float64))
    pipe = GaussianMixturePipeline(model, value_scale=2.0)
    images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    assert pipe.cluster(images).tolist() == [0, 1, 1]
    torch.testing.assert_close(pipe.responsibilities(images)[1].double(), WEIGHTS)  # as far from one as from the other
