from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import ortho_group, wasserstein_distance
from torch import Tensor, nn

from hf_genmodels.errors import UserError
from hf_genmodels.metrics.distribution import (
    frechet_distance,
    frechet_distance_from_features,
    inception_score,
    kernel_distance,
    mean_and_covariance,
    precision_recall,
)
from hf_genmodels.metrics.sliced_wasserstein import sliced_wasserstein
from hf_genmodels.metrics.wasserstein import wasserstein


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated(number: int, dim: int, seed: int) -> Tensor:
    generator = seeded(seed)
    mixing = torch.randn(dim, dim, generator=generator)
    return torch.randn(number, dim, generator=generator) @ mixing + torch.randn(dim, generator=generator)


def slow_frechet(a: Tensor, b: Tensor) -> float:
    x, y = a.double().numpy(), b.double().numpy()
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm(cov_x @ cov_y)
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cov_x + cov_y - 2 * np.real(root)))


@pytest.mark.parametrize("sizes", [(80, 90), (20, 25), (20, 90), (90, 20), (31, 90), (30, 30)])
def test_frechet_distance_is_that_of_the_matrix_root(sizes: tuple[int, int]) -> None:
    a, b = correlated(sizes[0], 30, seed=1), correlated(sizes[1], 30, seed=2)
    expected = slow_frechet(a, b)
    assert frechet_distance_from_features(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(*mean_and_covariance(a), *mean_and_covariance(b)) == pytest.approx(expected, rel=1e-6)


def spoil(features: Tensor, how: str) -> Tensor:
    features = features.clone()
    if how == "constant":
        features[:, 3] = 0.1
        features[:, 7] = 0.0
    elif how == "dependent":
        features[:, 5:] = features[:, :5] @ torch.randn(5, features.shape[1] - 5, generator=seeded(9))
    elif how == "all constant":
        features[:] = 2.0
    return features


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize("how", ["constant", "dependent", "all constant"])
@pytest.mark.parametrize("both", [True, False])
def test_frechet_distance_of_singular_covariances(how: str, both: bool) -> None:
    a = spoil(correlated(100, 12, seed=1), how)
    b = correlated(100, 12, seed=2)
    b = spoil(b, how) if both else b
    # the reference itself takes roots of rounding errors
    assert frechet_distance_from_features(a, b) == pytest.approx(slow_frechet(a, b), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("number", [10, 400])
@pytest.mark.parametrize("how", ["regular", "constant", "dependent", "all constant"])
def test_frechet_distance_of_a_set_to_itself_is_zero(how: str, number: int) -> None:
    features = spoil(10 * correlated(number, 20, seed=1), how)
    permuted = features[torch.randperm(number, generator=seeded())]
    assert frechet_distance_from_features(features, permuted) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_a_shift_is_its_squared_length() -> None:
    a, shift = correlated(200, 16, seed=1).double(), torch.linspace(-1, 2, 16, dtype=torch.float64)
    assert frechet_distance_from_features(a, a + shift) == pytest.approx(shift.square().sum().item(), rel=1e-9)


def test_frechet_distance_of_nearby_ill_conditioned_gaussians() -> None:
    # Commuting covariances S and 1.01^2 S: the distance is 0.01^2 Tr S, of which most singular values are invisible.
    dim = 60
    rotation = torch.from_numpy(ortho_group.rvs(dim, random_state=0))
    values = torch.logspace(0, -12, dim, dtype=torch.float64)
    covariance = rotation * values @ rotation.T
    covariance = (covariance + covariance.T) / 2
    mean = torch.zeros(dim, dtype=torch.float64)
    distance = frechet_distance(mean, covariance, mean, 1.01**2 * covariance)
    assert distance == pytest.approx(1e-4 * values.sum().item(), rel=1e-6)


def test_frechet_distance_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Identity(nn.Identity):
        num_features = 40

    a, b = correlated(300, 40, seed=1), correlated(250, 40, seed=2)
    metric = FrechetInceptionDistance(feature=Identity())
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert frechet_distance_from_features(a, b) == pytest.approx(metric.compute().item(), rel=1e-3)


@pytest.mark.parametrize("shape", [(400, 600), (17_000, 3)])
def test_mean_and_covariance_of_large_means(shape: tuple[int, int]) -> None:
    features = torch.randn(shape, dtype=torch.float64, generator=seeded()) + 1e5
    mean, covariance = mean_and_covariance(features)
    torch.testing.assert_close(mean, torch.from_numpy(features.numpy().mean(0)))
    torch.testing.assert_close(covariance, torch.from_numpy(np.cov(features.numpy(), rowvar=False)))


@pytest.mark.parametrize("metric", ["fid", "kid", "precision_recall", "swd", "wasserstein", "inception_score"])
def test_features_that_are_not_finite_are_an_error(metric: str) -> None:
    good, bad = torch.rand(10, 4), torch.rand(10, 4)
    bad[2, 1], bad[5, 0] = math.nan, math.inf
    with pytest.raises(UserError, match="2 of 10 rows hold NaN or infinity"):
        if metric == "fid":
            frechet_distance_from_features(good, bad)
        elif metric == "kid":
            kernel_distance(good, bad, generator=seeded(), subset_size=5)
        elif metric == "precision_recall":
            precision_recall(bad, good)
        elif metric == "swd":
            sliced_wasserstein(good, bad, generator=seeded())
        elif metric == "wasserstein":
            wasserstein(good, bad)
        else:
            inception_score(bad)


def test_statistics_that_do_not_fit_are_an_error() -> None:
    mean, covariance = torch.zeros(3), torch.eye(3)
    with pytest.raises(UserError, match="do not belong together"):
        frechet_distance(mean, covariance, torch.zeros(2), covariance)
    with pytest.raises(UserError, match="NaN or infinity"):
        frechet_distance(mean, covariance, mean, covariance * math.nan)
    with pytest.raises(UserError, match="3 and 4 dimensions"):
        frechet_distance_from_features(torch.rand(9, 3), torch.rand(9, 4))
    with pytest.raises(UserError, match="1 rows, this metric needs at least 2"):
        frechet_distance_from_features(torch.rand(1, 3), torch.rand(9, 3))


def slow_kid(a: Tensor, b: Tensor) -> float:
    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(np.dot(x.numpy(), y.numpy())) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(kernel(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(kernel(x, y) for x in a for y in b) / (n * m)


def test_kid_of_whole_sets() -> None:
    a, b = torch.randn(12, 5, generator=seeded(1)).double(), torch.randn(12, 5, generator=seeded(2)).double() + 0.5
    kid = kernel_distance(a, b, generator=seeded(), num_subsets=3, subset_size=12)
    assert kid.mean == pytest.approx(slow_kid(a, b), rel=1e-9)
    assert kid.std == pytest.approx(0, abs=1e-9)


def test_kid_of_subsets_estimates_kid_of_whole_sets() -> None:
    a, b = torch.randn(60, 4, generator=seeded(1)).double(), torch.randn(50, 4, generator=seeded(2)).double() + 1
    kid = kernel_distance(a, b, generator=seeded(3), num_subsets=400, subset_size=10)
    standard_error = kid.std / math.sqrt(400)
    assert kid.mean == pytest.approx(slow_kid(a, b), abs=4 * standard_error)
    assert 0 < standard_error < 0.1 * kid.mean
    assert kid == kernel_distance(a, b, generator=seeded(3), num_subsets=400, subset_size=10)
    assert kid != kernel_distance(a, b, generator=seeded(4), num_subsets=400, subset_size=10)


def test_kid_refuses_subsets_larger_than_the_set() -> None:
    with pytest.raises(UserError, match="subset_size 11 must lie between 2 and the 10 rows"):
        kernel_distance(torch.rand(20, 3), torch.rand(10, 3), generator=seeded(), subset_size=11)


def slow_share_inside(points: Tensor, centres: Tensor, k: int) -> float:
    inside = 0
    radii = [sorted(math.dist(c, o) for j, o in enumerate(centres) if j != i)[k - 1] for i, c in enumerate(centres)]
    for point in points:
        inside += any(math.dist(point, centre) <= radius for centre, radius in zip(centres, radii, strict=True))
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall(k: int) -> None:
    a = torch.randn(50, 2, generator=seeded(1))
    b = torch.randn(40, 2, generator=seeded(2)) * torch.tensor([0.5, 2.0]) + 0.5
    found = precision_recall(a, b, k=k, chunk_size=7)
    assert found.precision == pytest.approx(slow_share_inside(b, a, k))
    assert found.recall == pytest.approx(slow_share_inside(a, b, k))
    assert 0.2 < found.precision < 1
    assert found.precision != found.recall


def test_precision_and_recall_of_copies() -> None:
    # Four copies of each point: every radius is 0, and only rounding could keep a copy out.
    points = (100 * torch.rand(25, 300, generator=seeded()) + 1000).repeat(4, 1)
    assert precision_recall(points, points.flip(0), chunk_size=13) == (1.0, 1.0)
    assert precision_recall(points, points + 0.01) == (0.0, 0.0)


def test_precision_and_recall_need_more_points_than_neighbours() -> None:
    with pytest.raises(UserError, match="3 rows, this metric needs at least 4"):
        precision_recall(torch.rand(9, 2), torch.rand(3, 2), k=3)


@pytest.mark.parametrize("sizes", [(30, 30), (30, 42), (7, 50)])
def test_sliced_wasserstein_on_a_line(sizes: tuple[int, int]) -> None:
    a = torch.randn(sizes[0], 1, generator=seeded(1)).double()
    b = torch.randn(sizes[1], 1, generator=seeded(2)).double() * 2 + 1
    found = sliced_wasserstein(a, b, generator=seeded(), num_projections=3, power=1)
    assert found == pytest.approx(wasserstein_distance(a[:, 0], b[:, 0]), rel=1e-9)
    # every atom of both sets split into equal parts makes the sizes equal
    split_a, split_b = (x[:, 0].sort().values.repeat_interleave(n) for x, n in ((a, sizes[1]), (b, sizes[0])))
    expected = (split_a - split_b).square().mean().sqrt().item()
    assert sliced_wasserstein(a, b, generator=seeded(), num_projections=3) == pytest.approx(expected, rel=1e-9)


def test_sliced_wasserstein_of_a_shift() -> None:
    a, shift = torch.randn(100, 6, generator=seeded()), torch.tensor([1.0, -2, 0, 0, 1, 3])
    found = sliced_wasserstein(a, a + shift, generator=seeded(1), num_projections=4000)
    assert found == pytest.approx(math.sqrt(shift.square().sum().item() / 6), rel=0.05)
    assert sliced_wasserstein(a, a, generator=seeded(1)) == 0
    chunked = sliced_wasserstein(a, a + shift, generator=seeded(1), num_projections=4000, chunk_size=999)
    assert chunked == pytest.approx(found, rel=1e-12)


def test_wasserstein_on_a_line_matches_sorted_samples() -> None:
    a, b = torch.randn(60, 1, generator=seeded(1)), 2 * torch.randn(60, 1, generator=seeded(2)) + 1
    expected = (a.sort(dim=0).values - b.sort(dim=0).values).abs().double().mean().item()
    assert wasserstein(a, b) == pytest.approx(expected, rel=1e-6)
    assert wasserstein(b.half(), a.half()) == pytest.approx(expected, rel=1e-2)


def test_wasserstein_is_the_least_of_all_permutations() -> None:
    a, b = torch.randn(2, 5, 3, generator=seeded(3)).double()
    means = [(a - b[list(order)]).norm(dim=1).mean().item() for order in permutations(range(5))]
    assert wasserstein(a, b) == pytest.approx(min(means), rel=1e-12)


def test_wasserstein_of_shifted_copies() -> None:
    a, shift = 1000 + torch.randn(80, 6, generator=seeded()), torch.tensor([1.0, -2, 0, 0, 1, 3])
    assert wasserstein(a, (a + shift).flip(0)) == pytest.approx(math.sqrt(15), rel=1e-5)
    assert wasserstein(a, a.flip(0)) == 0


def test_wasserstein_needs_equally_many_rows() -> None:
    with pytest.raises(UserError, match="4 and 3 are not equally many"):
        wasserstein(torch.rand(4, 2), torch.rand(3, 2))


def test_inception_score() -> None:
    p = torch.randn(30, 5, generator=seeded()).double().softmax(1)
    marginal = p.mean(0)
    divergence = sum(float(row[k]) * (math.log(row[k]) - math.log(marginal[k])) for row in p for k in range(5)) / len(
        p
    )
    entropy = inception_score(p)
    assert entropy.score == pytest.approx(math.exp(divergence), rel=1e-9)
    assert entropy.marginal == pytest.approx(-sum(float(m) * math.log(m) for m in marginal), rel=1e-9)
    assert entropy.score == pytest.approx(math.exp(entropy.marginal - entropy.conditional), rel=1e-9)


def test_inception_score_of_extremes() -> None:
    sure = inception_score(torch.eye(7).repeat(3, 1))
    assert sure == pytest.approx((7.0, math.log(7), 0.0), abs=1e-9)
    assert inception_score(torch.full((9, 4), 0.25)) == pytest.approx((1.0, math.log(4), math.log(4)))
    with pytest.raises(UserError, match="sum to 1"):
        inception_score(torch.randn(9, 4).abs() + 1)
