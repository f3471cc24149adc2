"""Distances between two sets of feature vectors, and the label entropy of one set.

Everything here is a pure function of tensors, computed in float64. Features are (number, dim); which network made them
is the caller's affair and has to be reported next to the number, since none of these compare across extractors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ..errors import UserError

_ACCURACY = 1e-6  # relative error of the Frechet distance up to which the quick route will do
_ROWS = 16384  # rows turned to float64 at a time, which bounds the memory of the covariance
_COLUMNS = 256  # width of the blocks of which only one triangle is multiplied out


class KernelDistance(NamedTuple):
    """Mean and standard deviation of KID over its subsets."""

    mean: float
    std: float


class PrecisionRecall(NamedTuple):
    """Fractions in [0, 1]: of generated samples near the data, and of data near the generated samples."""

    precision: float
    recall: float


class LabelEntropy(NamedTuple):
    """Inception score, in [1, classes], and the entropies in nats behind it: score = exp(marginal - conditional)."""

    score: float
    marginal: float
    conditional: float


def check_features(features: Tensor, name: str, smallest: int = 2) -> None:
    """Raise a `UserError` unless `features` is a (number >= smallest, dim) tensor of finite numbers."""
    if features.ndim != 2:
        raise UserError(f"{name} features have shape {tuple(features.shape)}, expected (number, dim)")
    if len(features) < smallest:
        raise UserError(f"{name} features: {len(features)} rows, this metric needs at least {smallest}")
    bad = int((~torch.isfinite(features)).any(dim=1).sum())
    if bad:
        raise UserError(
            f"{name} features: {bad} of {len(features)} rows hold NaN or infinity; "
            "the samples or the extractor have diverged"
        )


def check_pair(features_a: Tensor, features_b: Tensor, smallest: int = 2) -> None:
    """`check_features` for both sets, which must have the same dimension; the first is the real one."""
    check_features(features_a, "first (real)", smallest)
    check_features(features_b, "second (generated)", smallest)
    if features_a.shape[1] != features_b.shape[1]:
        raise UserError(
            f"the features have {features_a.shape[1]} and {features_b.shape[1]} dimensions; use one extractor for both"
        )


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (dim,) and unbiased covariance (dim, dim) of features (number, dim), in float64.

    The mean is subtracted before multiplying, so no digits are lost to a large mean.
    """
    number, dim = features.shape
    mean = features.mean(dim=0, dtype=torch.float64)
    covariance = torch.zeros(dim, dim, dtype=torch.float64, device=features.device)
    for rows in features.split(_ROWS):
        centred = rows.double() - mean
        for start in range(0, dim, _COLUMNS):
            block = slice(start, start + _COLUMNS)
            covariance[block, start:].addmm_(centred[:, block].T, centred[:, start:])
    upper = covariance.triu_()
    return mean, (upper + upper.triu(1).T).div_(number - 1)


def _factor_of_covariance(covariance: Tensor) -> Tensor:
    """F with F^T F = covariance, (rank, dim): Cholesky, or from the eigenvectors where that breaks down."""
    variances = covariance.diagonal()
    live = variances > 0  # units that are never active are common, and would spoil Cholesky
    block = covariance if live.all() else covariance[live][:, live]
    factor, failed = torch.linalg.cholesky_ex(block, upper=True)
    if failed:
        values, vectors = torch.linalg.eigh(block)
        # Eigenvalues of this size are rounding; their roots would not be small.
        kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        factor = values[kept].sqrt()[:, None] * vectors[:, kept].T
    if live.all():
        return factor
    whole = factor.new_zeros(len(factor), len(covariance))
    whole[:, live] = factor
    return whole


def _factor_of_features(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and F with F^T F = covariance of (number, dim) features; F has min(number, dim) rows at most."""
    number, dim = features.shape
    if number > dim:
        mean, covariance = mean_and_covariance(features)
        return mean, _factor_of_covariance(covariance)
    mean = features.mean(dim=0, dtype=torch.float64)
    return mean, (features.double() - mean) / (number - 1) ** 0.5


def _distance(mean_a: Tensor, factor_a: Tensor, mean_b: Tensor, factor_b: Tensor) -> float:
    """||m_a - m_b||^2 + Tr(S_a + S_b) - 2 * (sum of the singular values of F_a F_b^T)."""
    without_root = ((mean_a - mean_b).square().sum() + factor_a.square().sum() + factor_b.square().sum()).item()
    product = factor_a @ factor_b.T
    if product.shape[0] > product.shape[1]:
        product = product.T
    if len(product) == 0:
        return without_root
    # The roots of the Gram matrix's eigenvalues are the singular values at a third of the cost. They lose digits when
    # small: an eigenvalue off by `noise` puts its root off by noise / (2 root).
    eigenvalues = torch.linalg.eigvalsh(product @ product.T)
    noise = 10 * torch.finfo(torch.float64).eps * eigenvalues[-1]
    roots = eigenvalues.clamp(min=noise).sqrt()
    squared = without_root - 2 * roots.sum().item()
    if (noise / roots).sum().item() <= _ACCURACY * squared:
        return squared
    squared = without_root - 2 * torch.linalg.svdvals(product).sum().item()
    return max(squared, 0.0)  # a square; rounding may leave it a hair below zero


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, ||m_a - m_b||^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

    Dowson & Landau 1982; as FID, Heusel et al. 2017 (arXiv 1706.08500, eq. 6). With S_a = F_a^T F_a and
    S_b = F_b^T F_b the trace of the root is the sum of the singular values of F_a F_b^T, so no root of a non-symmetric
    matrix is taken, and singular covariances need no added diagonal.

    Args:
        mean_a: (dim,).
        cov_a: (dim, dim), symmetric and positive semi-definite.
        mean_b: (dim,).
        cov_b: (dim, dim), symmetric and positive semi-definite.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        UserError: The shapes do not belong together or a number is not finite.
    """
    dim = len(mean_a)
    if mean_b.shape != (dim,) or cov_a.shape != (dim, dim) or cov_b.shape != (dim, dim):
        shapes = [tuple(t.shape) for t in (mean_a, cov_a, mean_b, cov_b)]
        raise UserError(
            f"means and covariances of shapes {shapes} do not belong together, expected (dim,) and (dim, dim)"
        )
    mean_a, cov_a, mean_b, cov_b = (statistic.double() for statistic in (mean_a, cov_a, mean_b, cov_b))
    if not all(torch.isfinite(statistic).all() for statistic in (mean_a, cov_a, mean_b, cov_b)):
        raise UserError("a mean or covariance holds NaN or infinity; the features it was made from have diverged")
    return _distance(mean_a, _factor_of_covariance(cov_a), mean_b, _factor_of_covariance(cov_b))


def frechet_distance_from_features(features_a: Tensor, features_b: Tensor) -> float:
    """Frechet distance (FID) of two feature sets, (number, dim) each, with unbiased covariances.

    See `frechet_distance`. A set with no more samples than dimensions stays in its sample form, whose product costs
    less than the covariance and loses nothing to rank deficiency.

    Raises:
        UserError: Fewer than two rows, different dimensions, or numbers that are not finite.
    """
    check_pair(features_a, features_b)
    return _distance(*_factor_of_features(features_a), *_factor_of_features(features_b))


def kernel_distance(
    features_a: Tensor,
    features_b: Tensor,
    *,
    generator: Generator,
    num_subsets: int = 100,
    subset_size: int = 1000,
) -> KernelDistance:
    """KID: unbiased squared MMD with the kernel (x.y / dim + 1)^3, over random subsets.

    Binkowski et al. 2018 (arXiv 1801.01401).

    Args:
        features_a: (number, dim).
        features_b: (number, dim); the numbers may differ.
        generator: Draws the subsets, without replacement within one.
        num_subsets: Number of subsets.
        subset_size: Rows of each set in a subset.

    Returns:
        Mean and (biased) standard deviation over the subsets; the mean may be negative, being unbiased.

    Raises:
        UserError: A set smaller than `subset_size`, a subset of fewer than two, or bad features.
    """
    check_pair(features_a, features_b)
    smaller = min(len(features_a), len(features_b))
    if not 2 <= subset_size <= smaller:
        raise UserError(f"KID: subset_size {subset_size} must lie between 2 and the {smaller} rows of the smaller set")

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:subset_size].to(features.device)].double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    values = []
    for _ in range(num_subsets):
        a, b = draw(features_a), draw(features_b)
        within_a, within_b = kernel(a, a), kernel(b, b)
        pairs = subset_size * (subset_size - 1)
        within = (within_a.sum() - within_a.trace() + within_b.sum() - within_b.trace()) / pairs
        values.append(within - 2 * kernel(a, b).mean())
    stacked = torch.stack(values)
    return KernelDistance(stacked.mean().item(), stacked.std(correction=0).item())


def _squared_distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """||x_i - y_j||^2 by the expanded square, (rows of x, rows of y), and the size of its rounding error."""
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    return norms - 2 * x @ y.T, norms * 1e-12


def precision_recall(features_a: Tensor, features_b: Tensor, *, k: int = 3, chunk_size: int = 1024) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1-2).

    The manifold of a set is the union of the balls around its points that reach to their k-th nearest neighbour in the
    set. Precision is the share of `features_b` inside the manifold of `features_a`, recall the share of `features_a`
    inside that of `features_b`.

    Args:
        features_a: Real features, (number, dim).
        features_b: Generated features, (number, dim).
        k: Neighbour whose distance is the radius; a point is not its own neighbour.
        chunk_size: Rows of the distance matrix held in memory at a time.

    Raises:
        UserError: A set with no more than `k` rows, or bad features.
    """
    check_pair(features_a, features_b, smallest=k + 1)
    centre = features_a.mean(dim=0, dtype=torch.float64)  # small norms keep the expanded square exact
    a, b = features_a.double() - centre, features_b.double() - centre

    def squared_radii(points: Tensor) -> Tensor:
        radii = []
        for start in range(0, len(points), chunk_size):
            distances, _ = _squared_distances(points[start : start + chunk_size], points)
            distances.diagonal(start).fill_(torch.inf)
            radii.append(distances.kthvalue(k, dim=1).values)
        return torch.cat(radii)

    def share_inside(points: Tensor, centres: Tensor) -> float:
        radii, inside = squared_radii(centres), 0
        for chunk in points.split(chunk_size):
            distances, rounding = _squared_distances(chunk, centres)
            # Copies of a point have radius 0: without the allowance rounding decides whether another copy is inside.
            inside += int((distances <= radii + rounding).any(dim=1).sum())
        return inside / len(points)

    return PrecisionRecall(precision=share_inside(b, a), recall=share_inside(a, b))


def sliced_wasserstein(
    features_a: Tensor,
    features_b: Tensor,
    *,
    generator: Generator,
    num_projections: int = 512,
    power: float = 2.0,
    chunk_size: int = 64,
) -> float:
    """Sliced Wasserstein distance, (mean over directions u of W_p(u.a, u.b)^p)^(1/p) (Bonneel et al. 2015).

    On a line the optimal plan matches quantiles, so sorting solves it exactly, for sets of different sizes too.

    Args:
        features_a: Features or raw samples, (number, dim).
        features_b: (number, dim); the numbers may differ.
        generator: Draws the directions, uniform on the unit sphere.
        num_projections: Number of directions.
        power: The p of W_p, at least 1.
        chunk_size: Directions handled at a time.

    Returns:
        The distance, in units of the features.

    Raises:
        UserError: Different dimensions, empty sets or numbers that are not finite.
    """
    check_pair(features_a, features_b, smallest=1)
    a, b = features_a.double(), features_b.double()
    directions = torch.randn(a.shape[1], num_projections, dtype=torch.float64, generator=generator).to(a.device)
    directions /= directions.norm(dim=0)
    # The quantile functions step at i / len(a) and j / len(b): whole numbers in units of 1 / (len(a) len(b)).
    steps_a = torch.arange(1, len(a) + 1, device=a.device) * len(b)
    steps_b = torch.arange(1, len(b) + 1, device=a.device) * len(a)
    steps = torch.cat([steps_a, steps_b]).unique()
    weights = steps.diff(prepend=steps.new_zeros(1)).double()[:, None] / (len(a) * len(b))
    index_a, index_b = torch.searchsorted(steps_a, steps), torch.searchsorted(steps_b, steps)
    total = 0.0
    for u in directions.split(chunk_size, dim=1):
        quantiles_a, quantiles_b = (a @ u).sort(dim=0).values[index_a], (b @ u).sort(dim=0).values[index_b]
        total += ((quantiles_a - quantiles_b).abs().pow(power) * weights).sum().item()
    return float((total / num_projections) ** (1 / power))


def inception_score(probabilities: Tensor) -> LabelEntropy:
    """Inception score exp(E_x KL(p(y|x) || p(y))) and its entropies (Salimans et al. 2016, arXiv 1606.03498).

    The original averages over ten splits, which biases the score of small sets; here all samples are one.

    Args:
        probabilities: p(y|x) of each sample, (number, classes), rows that sum to 1.

    Raises:
        UserError: Rows that are no probabilities.
    """
    check_features(probabilities, "class probability", smallest=1)
    p = probabilities.double()
    if (p < 0).any() or (p.sum(1) - 1).abs().max() > 1e-3:
        raise UserError(
            "class probabilities must be at least 0 and sum to 1 in each row; apply a softmax to the logits"
        )
    marginal_p = p.mean(dim=0)
    marginal = -torch.xlogy(marginal_p, marginal_p).sum()
    conditional = -torch.xlogy(p, p).sum(dim=1).mean()
    return LabelEntropy((marginal - conditional).exp().item(), marginal.item(), conditional.item())
