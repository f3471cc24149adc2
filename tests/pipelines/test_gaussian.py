"""Pipeline of the Gaussian: what every pipeline does, and its own methods against independent formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from hf_genmodels import GaussianModel, GaussianPipeline, UserError
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    random_images,
    tiny_pipeline,
)


class TestGaussianPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = GaussianPipeline


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_images(num_components: int | None = None) -> tuple[GaussianPipeline, torch.Tensor, torch.Tensor]:
    """A pipeline of 17-level 2x2 images, and the moments of their dequantised values."""
    factor = torch.randn(4, 4, generator=generator(1), dtype=torch.float64) / 6
    mean, covariance = torch.tensor([-0.2, 0.0, 0.1, 0.2]).double(), factor @ factor.T
    model = GaussianModel(1, 2, num_components, num_levels=17)
    model.set_moments(mean, covariance)
    return GaussianPipeline(model, value_scale=16.0), mean, covariance


def levels(count: int = 6) -> torch.Tensor:
    return torch.randint(17, (count, 1, 2, 2), generator=generator(2))


def test_log_likelihood_of_images_is_the_mean_over_the_noise_of_their_cell():
    pipe, mean, covariance = of_images()
    level = levels(2)
    noise = torch.rand(50_000, 1, 2, 2, generator=generator(3))
    densities = MultivariateNormal(mean, covariance)
    for image in level:
        exact = densities.log_prob(((image + noise) / 17 - 0.5).flatten(1).double()) - 4 * math.log(17)
        found = pipe.log_likelihood((image / 16).expand(50_000, 1, 2, 2), generator(4))
        assert float(found.mean()) == pytest.approx(float(exact.mean()), abs=6 * float(exact.std()) / 50_000**0.5)
    again = (pipe.log_likelihood(level / 16, generator(5)) for _ in range(2))
    assert torch.equal(*again)
    assert not torch.equal(pipe.log_likelihood(level / 16, generator(5)), pipe.log_likelihood(level / 16, generator()))


def test_log_likelihood_of_vectors_is_the_density():
    mean, covariance = torch.tensor([0.5, -1.0]).double(), torch.tensor([[2.0, 0.3], [0.3, 0.5]]).double()
    model = GaussianModel(2)
    model.set_moments(mean, covariance)
    vectors = torch.randn(5, 2, generator=generator())
    pipe = GaussianPipeline(model, value_scale=1.0)
    exact = MultivariateNormal(mean, covariance).log_prob(vectors.double())
    torch.testing.assert_close(pipe.log_likelihood(vectors).double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pipe.bits_per_dim(vectors).double(), -exact / (2 * math.log(2)), rtol=1e-5, atol=1e-5)
    assert torch.equal(pipe.anomaly_score(vectors), -pipe.log_likelihood(vectors))


def test_latents_are_the_whitened_principal_components_of_the_middles():
    pipe, mean, covariance = of_images()
    level = levels()
    centred = ((level + 0.5) / 17 - 0.5).flatten(1).double() - mean
    latents = pipe.encode(level / 16)
    # whatever the signs and the order: squared length is the Mahalanobis distance
    expected = (centred * torch.linalg.solve(covariance, centred.T).T).sum(1)
    torch.testing.assert_close(latents.square().sum(1).double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pipe.decode(latents, "pt").images, level / 16, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="deterministic; leave sample=True out"):
        pipe.encode(level / 16, sample=True)


def test_reconstruction_with_two_components_is_pcas():
    pipe, mean, covariance = of_images(2)
    directions = torch.linalg.eigh(covariance)[1][:, 2:]
    level = levels()
    centred = ((level + 0.5) / 17 - 0.5).flatten(1).double() - mean
    continuous = mean + centred @ directions @ directions.T
    expected = (((continuous + 0.5) * 17 - 0.5) / 16).clamp(0, 1).view(-1, 1, 2, 2)
    found = pipe.reconstruct(level / 16, output_type="pt").images.double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert pipe.latent_dim == 2 and pipe.encode(level / 16).shape == (6, 2)


@pytest.mark.parametrize("mode", ["linear", "spherical"])
def test_interpolation_begins_and_ends_at_the_reconstructions(mode):
    pipe, images = tiny_pipeline("GaussianPipeline"), random_images((1, 8, 8))
    path = pipe.interpolate(images[0], images[1], num_steps=5, mode=mode, output_type="pt").images
    torch.testing.assert_close(path[[0, -1]], pipe.reconstruct(images[:2], output_type="pt").images)
