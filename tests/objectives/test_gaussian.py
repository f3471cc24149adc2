"""The Gaussian's fit against numpy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_genmodels import DataSpec, UserError
from hf_genmodels.families.gaussian import GaussianArguments, build
from hf_genmodels.objectives.gaussian import GaussianObjective
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch


def fitted(data: DataSpec, batches: list[dict[str, torch.Tensor]], **options: int) -> tuple[GaussianObjective, dict]:
    objective = build(GaussianArguments(**options), data)
    figures = objective.fit(iter(batches), torch.Generator().manual_seed(0)).figures
    return objective, {name: values for name, (values,) in figures.items()}


def split(batch: dict[str, torch.Tensor], size: int) -> list[dict[str, torch.Tensor]]:
    return [
        {name: value[begin : begin + size] for name, value in batch.items()}
        for begin in range(0, len(batch["image"]), size)
    ]


def covariance_of(model) -> np.ndarray:
    directions, variances = (value.detach().double().numpy() for value in (model.directions, model.variances))
    return directions.T @ np.diag(variances) @ directions


def test_moments_of_vectors_far_from_the_origin():
    batch = make_batch(VECTORS, 500)
    batch["image"] = batch["image"] @ torch.tensor([[1.0, 0.4], [0.0, 0.3]]) + torch.tensor([3000.0, -500.0])
    objective, figures = fitted(VECTORS, split(batch, 7))
    vectors = batch["image"].double().numpy()
    assert objective.networks["gaussian"].mean.tolist() == pytest.approx(vectors.mean(0).tolist(), rel=1e-6)
    expected = np.cov(vectors.T, bias=True)
    assert covariance_of(objective.networks["gaussian"]) == pytest.approx(expected, rel=1e-5)
    entropy = math.log(2 * math.pi * math.e) + 0.5 * np.linalg.slogdet(expected)[1]
    assert figures["negative_log_likelihood"] == pytest.approx(entropy, rel=1e-9)
    assert figures["bits_per_dim"] == pytest.approx(entropy / (2 * math.log(2)), rel=1e-9)


def test_moments_of_images_are_those_of_dequantised_ones():
    batch = make_batch(IMAGES, 400)
    objective, figures = fitted(IMAGES, split(batch, 64))
    level = np.repeat(((batch["image"] + 1) * 8).round().flatten(1).double().numpy(), 200, axis=0)
    noise = np.random.default_rng(0).random(level.shape)
    dequantised = (level + noise) / 17 - 0.5
    model = objective.networks["gaussian"]
    assert model.mean.detach().numpy() == pytest.approx(dequantised.mean(0), abs=5 * 0.3 / 17 / len(level) ** 0.5)
    # the noise's part of each variance is 1 / (12 17^2) = 2.9e-4
    difference = covariance_of(model) - np.cov(dequantised.T, bias=True)
    error = 2**0.5 * 0.3 * (1 / 12) ** 0.5 / 17 / len(level) ** 0.5
    assert np.abs(difference).max() < 5 * error < 1.5e-4
    assert np.diag(difference).mean() == pytest.approx(0, abs=5 * error / 8)
    # the figure of the training data is the mean over the noise
    sample = torch.from_numpy(dequantised).float().view(-1, 1, 8, 8)[::7]
    with torch.no_grad():
        found = -model(sample).log_likelihood.double() + 64 * math.log(17)
    error = float(found.std()) / len(sample) ** 0.5
    assert figures["negative_log_likelihood"] == pytest.approx(float(found.mean()), abs=5 * error)


def test_batches_do_not_matter():
    batch = make_batch(IMAGES, 100)
    one, other = (fitted(IMAGES, split(batch, size))[0].networks["gaussian"] for size in (100, 9))
    assert covariance_of(one) == pytest.approx(covariance_of(other), abs=1e-8)
    torch.testing.assert_close(one.mean, other.mean)


def test_components_are_scikit_learns():
    decomposition = pytest.importorskip("sklearn.decomposition")
    batch = make_batch(VECTORS, 300)
    batch["image"] = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7)
    data = DataSpec("vectors", 6, None, 1.0, None, 300, "0" * 12)
    objective, figures = fitted(data, [batch], num_components=2)
    vectors = batch["image"].double().numpy()
    theirs = decomposition.PCA(2).fit(vectors)
    model = objective.networks["gaussian"]
    alignment = np.abs(model.directions.detach().numpy() @ theirs.components_.T)
    assert alignment == pytest.approx(np.eye(2), abs=1e-5)
    # scikit-learn divides by n - 1
    assert model.variances.tolist() == pytest.approx((theirs.explained_variance_ * 299 / 300).tolist(), rel=1e-5)
    assert model.noise_variance.item() == pytest.approx(theirs.noise_variance_ * 299 / 300, rel=1e-5)
    evaluated = objective.evaluate(objective.networks, batch, torch.Generator())
    projected = theirs.inverse_transform(theirs.transform(vectors))
    assert evaluated["mse"].tolist() == pytest.approx(((projected - vectors) ** 2).mean(1).tolist(), rel=1e-3)
    assert evaluated["negative_log_likelihood"].mean().item() == pytest.approx(figures["negative_log_likelihood"])


def test_refused_data():
    with pytest.raises(UserError, match=r"fill only 3 of their 64 dimensions.*--num_components below 3"):
        data = DataSpec("vectors", 64, None, 1.0, None, 4, "0" * 12)
        fitted(data, [{"image": torch.randn(4, 64, generator=torch.Generator().manual_seed(0))}])
    large = DataSpec("photographs", 3, (64, 64), 255.0, None, 4, "0" * 12)
    with pytest.raises(UserError, match=r"photographs has 12288 numbers in a sample.*choose a smaller --resolution"):
        build(GaussianArguments(), large)
    with pytest.raises(UserError, match="--num_levels has no meaning for vectors, which builtin:toy2d has"):
        build(GaussianArguments(num_levels=4), VECTORS)
    with pytest.raises(UserError, match=r"num_components must be 1 to 2.*\(--num_components\)"):
        build(GaussianArguments(num_components=3), VECTORS)
