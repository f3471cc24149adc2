"""The mixture's fit against scikit-learn's own, and what is refused."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.families.gaussian_mixture import GaussianMixtureArguments, build
from hf_genmodels.losses.dequantization import dequantize
from hf_genmodels.objectives.gaussian_mixture import GaussianMixtureObjective
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch
from tests.testing_utils.refusals import refused

mixture = pytest.importorskip("sklearn.mixture")


def objective(data=VECTORS, **options) -> GaussianMixtureObjective:
    return build(GaussianMixtureArguments(**options), data)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(count: int = 200) -> dict[str, torch.Tensor]:
    centres = torch.tensor([[-3.0, 0.0], [3.0, 1.0]])
    points = torch.randn(count, 2, generator=generator(0)) * torch.tensor([1.0, 0.4])
    return {"image": points + centres[torch.arange(count) % 2], "index": torch.arange(count)}


def scikit_learns(vectors: np.ndarray, **options):
    """The same fit with the seed that the generator gives after the noise."""
    draws = generator()
    torch.rand(vectors.shape, generator=draws)
    seed = int(torch.randint(2**31, (), generator=draws))
    return mixture.GaussianMixture(random_state=seed, **options).fit(vectors)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_scores_are_scikit_learns(kind):
    batch = clouds()
    ours = objective(num_components=3, covariance_type=kind, reg_covar=1e-3)
    result = ours.fit([batch], generator())
    vectors = batch["image"].double().numpy()
    theirs = scikit_learns(vectors, n_components=3, covariance_type=kind, reg_covar=1e-3)
    fresh = torch.randn(20, 2, generator=generator(1)) * 3
    output = ours.networks["mixture"](fresh)
    assert output.log_likelihood.tolist() == pytest.approx(theirs.score_samples(fresh.double().numpy()), rel=1e-4)
    assert output.responsibilities.detach().numpy() == pytest.approx(
        theirs.predict_proba(fresh.double().numpy()), abs=1e-4
    )
    # one figure for each step, of the parameters after it, which never become less likely (but for reg_covar)
    nats = result.figures["negative_log_likelihood"]
    assert len(nats) == theirs.n_iter_ and result.warning is None
    assert nats[-1] == pytest.approx(-theirs.score(vectors), rel=1e-9)
    assert (np.diff(nats) < 1e-3).all() and nats[0] > nats[-1]
    assert result.figures["bits_per_dim"] == pytest.approx([value / 2 / math.log(2) for value in nats])


def test_images_are_dequantised_once_with_the_seed():
    batch = make_batch(IMAGES, 80)
    ours = objective(IMAGES, num_components=2, covariance_type="diag")
    parts = [{name: value[rows] for name, value in batch.items()} for rows in (slice(50), slice(50, 80))]
    result = ours.fit(parts, generator())
    noise = torch.rand(batch["image"].shape, generator=generator())
    dequantised = dequantize(batch["image"], noise, 17)
    vectors = dequantised.flatten(1).double().numpy()
    theirs = scikit_learns(vectors, n_components=2, covariance_type="diag")
    found = ours.networks["mixture"](dequantised).log_likelihood
    assert found.tolist() == pytest.approx(theirs.score_samples(vectors).tolist(), rel=1e-4)
    expected = -theirs.score(vectors) + 64 * math.log(17)
    assert result.figures["negative_log_likelihood"][-1] == pytest.approx(expected, rel=1e-9)
    again = objective(IMAGES, num_components=2, covariance_type="diag")
    again.fit([batch], generator())
    assert torch.equal(again.networks["mixture"].means, ours.networks["mixture"].means)


def test_held_out_figures():
    ours = objective(num_components=2)
    ours.fit([clouds()], generator())
    batch = {"image": torch.randn(9, 2, generator=generator(5))}
    figures = ours.evaluate(ours.networks, batch, generator())
    exact = -ours.networks["mixture"](batch["image"]).log_likelihood
    assert torch.equal(figures["negative_log_likelihood"], exact)
    assert figures["bits_per_dim"].tolist() == pytest.approx((exact / 2 / math.log(2)).tolist())


def test_a_fit_that_has_not_converged_says_so_in_our_words():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = objective(num_components=3, max_iter=1).fit([clouds()], generator())
    assert result.warning == "the likelihood was still rising after 1 steps; give a larger --max_iter"


def test_more_starts_find_nothing_less_likely():
    one, several = (
        objective(num_components=4, num_init=number).fit([clouds()], generator()).figures for number in (1, 4)
    )
    assert several["negative_log_likelihood"][-1] <= one["negative_log_likelihood"][-1] + 1e-9


def test_a_component_that_shrinks_to_a_point():
    batch = {"image": torch.zeros(20, 2)}
    batch["image"][10:] = 1
    with refused("shrunk to a point; give a larger --reg_covar"):
        objective(num_components=2, reg_covar=0).fit([batch], generator())


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (VECTORS, {"num_components": 0}, "--num_components must be at least 1, got 0"),
        (VECTORS, {"num_components": 101}, "--num_components 101 needs 101 examples, builtin:toy2d has 100"),
        (VECTORS, {"reg_covar": -1.0}, "--reg_covar must be at least 0"),
        (VECTORS, {"max_iter": 0}, "--max_iter must be at least 1"),
        (VECTORS, {"num_init": 0}, "--num_init must be at least 1"),
        (replace(IMAGES, size=(100, 100)), {}, "choose a smaller --resolution, or --covariance_type diag"),
        (replace(IMAGES, value_scale=1.0), {}, "float values.*--num_levels 256"),
    ],
)
def test_refused(data, options, said):
    with refused(said):
        objective(data, **options)
    objective(replace(IMAGES, size=(100, 100)), covariance_type="diag")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match=r"fitted by scikit-learn: pip install hf_genmodels\[builtin\]"):
        objective()
