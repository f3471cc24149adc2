"""The Gaussian (PCA) model against torch.distributions, scipy and numpy's singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from hf_genmodels import GaussianModel, UserError
from tests.testing_utils.models import ModelTesterMixin
from tests.testing_utils.refusals import refused


class TestGaussianModel(ModelTesterMixin):
    model_class = GaussianModel
    configs = (
        {"in_channels": 5, "sample_size": None},
        {"in_channels": 5, "sample_size": None, "num_components": 2},
        {"in_channels": 2, "sample_size": 3, "num_components": 4, "num_levels": 17},
    )

    def inputs(self, config, generator):
        return {"sample": torch.randn(3, *self.sample_shape(config), generator=generator)}


def moments(dim: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.randn(dim, generator=generator, dtype=torch.float64), factor @ factor.T / dim


def fitted(num_components: int | None, dim: int = 5) -> tuple[GaussianModel, float]:
    model = GaussianModel(dim, None, num_components)
    return model, model.set_moments(*moments(dim))


def test_full_gaussian_is_the_multivariate_normal():
    mean, covariance = moments()
    model, _ = fitted(None)
    assert model.noise_variance is None
    sample = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(sample.double())
    torch.testing.assert_close(model(sample).log_likelihood.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("num_components", [None, 2])
def test_mixed_precision_changes_no_density(num_components):
    model, _ = fitted(num_components)
    sample = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    exact, decoded = model(sample), model.decode(model(sample).latents)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(sample).log_likelihood, exact.log_likelihood)
        assert torch.equal(model.decode(exact.latents), decoded)


@pytest.mark.parametrize("num_components", [1, 2, 4])
def test_fewer_components_are_probabilistic_pca(num_components):
    """C = W W^T + s^2 I, W = U (L - s^2)^(1/2), s^2 the mean discarded eigenvalue (Tipping & Bishop, eqs. 7 and 8)."""
    mean, covariance = (value.numpy() for value in moments())
    values, vectors = np.linalg.eigh(covariance)
    kept, discarded = slice(5 - num_components, 5), slice(0, 5 - num_components)
    noise = values[discarded].mean()
    loadings = vectors[:, kept] * np.sqrt(values[kept] - noise)
    theirs = multivariate_normal(mean, loadings @ loadings.T + noise * np.eye(5))
    model, entropy = fitted(num_components)
    sample = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    assert model(sample).log_likelihood.tolist() == pytest.approx(theirs.logpdf(sample.numpy()).tolist(), rel=1e-4)
    # what is promised of data with these moments: the cross-entropy, here that of the data's Gaussian
    cross = 0.5 * (5 * np.log(2 * np.pi) + np.linalg.slogdet(theirs.cov)[1])
    cross += 0.5 * np.trace(np.linalg.solve(theirs.cov, covariance))
    assert entropy == pytest.approx(cross, rel=1e-10)


def test_all_components_but_one_lose_nothing():
    sample = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    whole, all_but_one, fewer = (fitted(number)[0](sample).log_likelihood for number in (None, 4, 3))
    torch.testing.assert_close(all_but_one, whole, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(fitted(5)[0](sample).log_likelihood, whole)
    assert not torch.allclose(fewer, whole, rtol=1e-2)


def test_reconstruction_is_that_of_pca():
    data = (
        torch.randn(40, 6, generator=torch.Generator().manual_seed(3)).double()
        @ torch.randn(6, 6, generator=torch.Generator().manual_seed(4)).double()
    )
    centred = data - data.mean(0)
    model = GaussianModel(6, None, 2)
    model.set_moments(data.mean(0), centred.T @ centred / len(data))
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    pca = data.mean(0) + centred @ directions[:2].T @ directions[:2]
    output = model(data.float())
    torch.testing.assert_close(model.decode(output.latents).double(), pca, rtol=1e-4, atol=1e-4)
    # latents of the fitted data are uncorrelated, of mean 0 and variance 1
    torch.testing.assert_close(output.latents.T @ output.latents / 40, torch.eye(2), rtol=1e-4, atol=1e-4)


def test_decoded_normals_have_the_moments():
    mean, covariance = moments()
    latents = torch.randn(100_000, 5, generator=torch.Generator().manual_seed(0))
    drawn = fitted(None)[0].decode(latents).double()
    largest = float(covariance.diagonal().max())
    torch.testing.assert_close(drawn.mean(0), mean, atol=5 * (largest / 100_000) ** 0.5, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=5 * largest * (2 / 100_000) ** 0.5, rtol=0)


def test_images_are_their_levels_and_back():
    model = GaussianModel(1, 2, None, num_levels=17)
    image = torch.tensor([0, 3, 15, 16]).view(1, 1, 2, 2) / 8 - 1
    middles = model.continuous(image, torch.full_like(image, 0.5))
    assert middles.flatten().tolist() == pytest.approx([(k + 0.5) / 17 - 0.5 for k in (0, 3, 15, 16)])
    torch.testing.assert_close(model.shown(middles), image)
    # a density of N(0, 1) over cells of width 1/17
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(0, 1).log_prob(model.continuous(image, noise)) - np.log(17)
    torch.testing.assert_close(model.log_probability(image, noise), normal.sum((1, 2, 3)))


def test_data_that_fill_no_volume_are_refused():
    mean, covariance = moments()
    covariance[:, 0] = covariance[0, :] = 0
    for num_components in (None, 4):
        with refused(r"fill only 4 of their 5 dimensions.*--num_components below 4"):
            GaussianModel(5, None, num_components).set_moments(mean, covariance)
    GaussianModel(5, None, 3).set_moments(mean, covariance)


@pytest.mark.parametrize("num_components", [0, 6])
def test_impossible_numbers_of_components(num_components):
    with pytest.raises(UserError, match=f"num_components must be 1 to 5.*got {num_components}"):
        GaussianModel(5, None, num_components)


def test_another_shape():
    with pytest.raises(UserError, match=r"takes samples of shape \(5,\), got \(4,\)"):
        GaussianModel(5)(torch.zeros(1, 4))
