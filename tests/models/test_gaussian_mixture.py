"""The Gaussian mixture against scikit-learn and torch.distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from hf_genmodels import GaussianMixtureModel, UserError
from tests.testing_utils.models import ModelTesterMixin

TYPES = ("full", "tied", "diag")


class TestGaussianMixtureModel(ModelTesterMixin):
    model_class = GaussianMixtureModel
    configs = (
        *({"in_channels": 3, "sample_size": None, "num_components": 2, "covariance_type": kind} for kind in TYPES),
        {"in_channels": 2, "sample_size": 3, "num_components": 4, "num_levels": 17},
    )

    def inputs(self, config, generator):
        return {"sample": torch.randn(3, *self.sample_shape(config), generator=generator)}


def components(kind: str, dim: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, means, covariances as scikit-learn has them, and as full matrices."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    means = 2 * torch.randn(3, dim, generator=generator, dtype=torch.float64)
    factors = torch.randn(3, dim, dim, generator=generator, dtype=torch.float64)
    whole = factors @ factors.mT / dim + 0.1 * torch.eye(dim, dtype=torch.float64)
    if kind == "tied":
        whole = whole[:1].repeat(3, 1, 1)
        return weights, means, whole[0], whole
    if kind == "diag":
        diagonals = whole.diagonal(dim1=1, dim2=2)
        return weights, means, diagonals, torch.diag_embed(diagonals)
    return weights, means, whole, whole


def fitted(kind: str) -> GaussianMixtureModel:
    model = GaussianMixtureModel(3, None, 3, kind)
    model.set_components(*components(kind)[:3])
    return model


@pytest.mark.parametrize("kind", TYPES)
def test_density_and_responsibilities(kind):
    weights, means, _, whole = components(kind)
    sample = 2 * torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    normals = MultivariateNormal(means, whole)
    theirs = MixtureSameFamily(Categorical(weights), normals).log_prob(sample.double())
    output = fitted(kind)(sample)
    torch.testing.assert_close(output.log_likelihood.double(), theirs, rtol=1e-5, atol=1e-4)
    joint = weights * normals.log_prob(sample.double()[:, None]).exp()
    torch.testing.assert_close(
        output.responsibilities.double(), joint / joint.sum(1, keepdim=True), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", TYPES)
def test_decoded_normals_are_draws_from_the_mixture(kind):
    weights, means, _, whole = components(kind)
    count = 60_000
    latents = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    drawn = fitted(kind).decode(latents).double()
    uniform = torch.special.ndtr(latents[:, 0])
    component = (uniform > 0.2).long() + (uniform > 0.7).long()
    for index in range(3):
        rows = drawn[component == index]
        assert len(rows) / count == pytest.approx(float(weights[index]), abs=5 * (0.25 / count) ** 0.5)
        largest = float(whole[index].diagonal().max())
        torch.testing.assert_close(rows.mean(0), means[index], atol=5 * (largest / len(rows)) ** 0.5, rtol=0)
        torch.testing.assert_close(rows.T.cov(), whole[index], atol=5 * largest * (2 / len(rows)) ** 0.5, rtol=0)


def test_one_component_is_a_gaussian():
    mean, covariance = torch.tensor([0.5, -1.0]).double(), torch.tensor([[2.0, 0.3], [0.3, 0.5]]).double()
    model = GaussianMixtureModel(2, None, 1)
    model.set_components(torch.ones(1).double(), mean[None], covariance[None])
    sample = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    exact = MultivariateNormal(mean, covariance).log_prob(sample.double())
    torch.testing.assert_close(model(sample).log_likelihood.double(), exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(model(sample).responsibilities, torch.ones(5, 1))


def test_the_outermost_latents_choose_the_outermost_components():
    latents = torch.zeros(2, 4)
    latents[:, 0] = torch.tensor([-40.0, 40.0])
    torch.testing.assert_close(fitted("full").decode(latents).double(), components("full")[1][[0, 2]])


def test_impossible_options():
    with pytest.raises(UserError, match="covariance_type 'spherical' is unknown; choose one of: full, tied, diag"):
        GaussianMixtureModel(2, covariance_type="spherical")
    with pytest.raises(UserError, match="num_components must be at least 1, got 0"):
        GaussianMixtureModel(2, num_components=0)
